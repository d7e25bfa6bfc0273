"""
Tests for L{openai_server.accounts.meter}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openai_server.accounts.account import AccountLimits
from openai_server.accounts.meter import MAX_OPEN, AccountMeter, Reservation, durationFrom, periodsAt
from openai_server.errors import APIError
from tests.accounts.support import NOW
from tests.support import SyncCase

PERIODS = ("2026-05-30", "2026-05")


class MeterCase(SyncCase):
    """
    One account.
    """

    def setUp(self) -> None:
        super().setUp()
        self.meter = AccountMeter()
        self.now = 100.0

    def letIn(self, tokens: int = 0, **limits: int) -> Reservation:
        """
        Let a request in.
        """
        return self.meter.letIn(AccountLimits(**limits), self.now, PERIODS, tokens)

    def refusal(self, tokens: int = 0, **limits: int) -> APIError:
        """
        Why a request is not let in.
        """
        return self.assertRaises(APIError, self.letIn, tokens, **limits)  # type: ignore[no-any-return]


class LimitTests(MeterCase):
    """
    What is let in, and what is said to the others.
    """

    def test_requests(self) -> None:
        """
        The wait is true, in both headers.
        """
        for _ in range(2):
            self.letIn(rpm=2)
            self.now += 10.2
        error = self.refusal(rpm=2)
        self.assertEqual(
            (error.kind.status, error.kind.code, error.retryAfter, error.headers, error.mayRetry),
            (429, "rate_limit_exceeded", 40, {"retry-after-ms": "39600"}, True),
        )
        self.assertEqual(
            error.message,
            "Rate limit reached: limit of requests per minute (RPM): 2, used: 2, requested: 1."
            " Please try again in 39.6s.",
        )
        self.now += 39.6
        self.letIn(rpm=2)

    def test_tokens(self) -> None:
        """
        They count when they are reserved.
        """
        self.letIn(70, tpm=100)
        error = self.refusal(31, tpm=100)
        self.assertEqual((error.kind.code, error.retryAfter), ("rate_limit_exceeded", 60))
        self.letIn(30, tpm=100)

    def test_tooLarge(self) -> None:
        """
        What can never be within the limit is not to be asked again.
        """
        error = self.refusal(101, tpm=100)
        self.assertEqual(error.kind.code, "rate_limit_exceeded")
        self.assertEqual((error.retryAfter, error.mayRetry), (None, False))

    def test_concurrent(self) -> None:
        """
        A place is free when its request is over; leaving twice frees one.
        """
        first, _ = self.letIn(concurrent=2), self.letIn(concurrent=2)
        self.assertEqual(self.refusal(concurrent=2).retryAfter, 1)
        first.leave()
        first.leave()
        self.letIn(concurrent=2)
        self.refusal(concurrent=2)

    def test_severalLimits(self) -> None:
        """
        Whoever waits as long as is said is within all of them.
        """
        self.letIn(90, rpm=1, tpm=100)
        self.now += 10
        self.letIn(5, tpm=100)
        for limits, wait, named in (
            ({"concurrent": 2, "rpm": 2}, 50, "(RPM)"),
            ({"rpm": 2, "tpm": 100}, 60, "(TPM)"),
            ({"concurrent": 2}, 1, "at a time"),
        ):
            error = self.refusal(96, **limits)
            self.assertEqual(error.retryAfter, wait)
            self.assertIn(named, error.message)

    def test_budgets(self) -> None:
        """
        Of the day and of the month, with what is reserved.
        """
        self.meter.used = {PERIODS[0]: 50, PERIODS[1]: 900}
        self.letIn(30, tokensPerDay=100, tokensPerMonth=1000)
        for limits, name in (({"tokensPerDay": 100}, "day"), ({"tokensPerMonth": 950}, "month")):
            error = self.refusal(21, **limits)
            self.assertEqual((error.kind.status, error.kind.code), (429, "insufficient_quota"))
            self.assertEqual((error.mayRetry, error.retryAfter), (False, None))
            self.assertIn(f"tokens for this {name} (UTC)", error.message)
        self.letIn(20, tokensPerDay=100, tokensPerMonth=950)

    def test_refusedChangesNothing(self) -> None:
        """
        What is not let in does not count.
        """
        self.letIn(50, tpm=100)
        for _ in range(9):
            self.refusal(51, tpm=100, rpm=9)
        self.assertEqual((self.meter.requests.used, self.meter.running, self.meter.reserved), (1, 1, 50))


class SettlingTests(MeterCase):
    """
    What a turn has cost takes the place of what was reserved.
    """

    def test_less(self) -> None:
        """
        The rest is there again at once.
        """
        self.letIn(80, tpm=100).bind("s")
        self.now += 5
        self.meter.settle("s", 30, self.now)
        self.assertEqual((self.meter.tokens.used, self.meter.reserved), (30, 0))
        self.letIn(70, tpm=100)

    def test_more(self) -> None:
        """
        What is beyond the limit has to pass before anything else is let in.
        """
        self.letIn(80, tpm=100).bind("s")
        self.now += 30
        self.meter.settle("s", 130, self.now)
        self.assertEqual(self.meter.tokens.used, 130)
        self.assertEqual(self.refusal(1, tpm=100).retryAfter, 30)
        self.now += 30
        self.assertEqual(self.meter.tokens.wait(self.now, 50, 100), 0)

    def test_severalRequestsOfOneTurn(self) -> None:
        """
        A turn that waited for results was reserved for twice.
        """
        for tokens in (40, 50):
            self.letIn(tokens, tpm=100).bind("s")
        self.meter.settle("s", 60, self.now)
        self.assertEqual((self.meter.tokens.used, self.meter.reserved, self.meter.bySession), (60, 0, {}))

    def test_withoutAReservation(self) -> None:
        """
        A turn of an earlier process counts when it ends.
        """
        self.meter.settle("s", 60, self.now)
        self.assertEqual((self.meter.tokens.used, self.meter.reserved), (60, 0))

    def test_longAfter(self) -> None:
        """
        What was reserved longer than a minute ago has counted; only what is
        beyond it counts now.
        """
        self.letIn(80, tpm=100).bind("s")
        self.now += 600
        self.meter.settle("s", 90, self.now)
        self.assertEqual(self.meter.tokens.wait(self.now, 90, 100), 0)
        self.assertEqual(self.meter.tokens.used, 10)

    def test_dropped(self) -> None:
        """
        Where no turn has begun, nothing has been used; where one has, it
        tells itself.
        """
        self.letIn(80, tpm=100).drop()
        self.assertEqual((self.meter.tokens.used, self.meter.reserved, self.meter.running), (0, 0, 0))
        bound = self.letIn(80, tpm=100)
        bound.bind("s")
        bound.drop()
        self.assertEqual((self.meter.tokens.used, self.meter.reserved, self.meter.running), (80, 80, 0))
        self.meter.settle("s", 10, self.now)
        self.assertEqual((self.meter.tokens.used, self.meter.reserved), (10, 0))

    def test_boundAfterItWasDropped(self) -> None:
        """
        Its client has left before the turn was begun: that counts when it ends.
        """
        left = self.letIn(80, tpm=100)
        left.drop()
        left.bind("s")
        self.assertEqual(self.meter.bySession, {})

    def test_lost(self) -> None:
        """
        A turn whose end is never told does not reserve for ever.
        """
        self.letIn(80).bind("s")
        self.now += MAX_OPEN - 1
        self.letIn(1).bind("t")
        self.assertEqual(self.meter.reserved, 81)
        self.now += 1
        self.letIn(1)
        self.assertEqual((self.meter.reserved, list(self.meter.bySession), self.meter.running), (2, ["t"], 2))


class AnyScheduleTests(MeterCase):
    """
    Whatever is asked when, and costs what.
    """

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([0, 3, 700, 15_000, 59_999, 60_000]),
                st.integers(0, 60),
                st.integers(0, 90),
                st.sampled_from(["ends", "runs", "fails"]),
            ),
            max_size=30,
        )
    )
    def test_limits(self, schedule: list[tuple[int, int, int, str]]) -> None:
        """
        C44: no minute begins more requests than its limit; a request is let in
        only while the tokens that are known are within theirs, so that no
        more than one goes beyond it; no more run at a time than may; and
        nobody is kept out whose account has had nothing for a minute.
        """
        meter, limits = AccountMeter(), AccountLimits(rpm=4, tpm=100, concurrent=3, tokensPerDay=900)
        now = 0
        begun, running = list[int](), list[tuple[Reservation, str, int]]()
        budget = 0
        for number, (pause, estimate, cost, how) in enumerate(schedule):
            now += pause
            if pause >= 60_000:
                for each, session, costs in running:
                    each.leave()
                    meter.settle(session, costs, now / 1000 - 60)
                running.clear()
            known = meter.tokens
            try:
                one = meter.letIn(limits, now / 1000, PERIODS, estimate)
            except APIError as error:
                inMinute = [at for at in begun if now - at <= 60_010]
                isIdle = not running and not inMinute and not known.used
                self.assertFalse(isIdle and budget + estimate <= 900, error.message)
                continue
            begun.append(now)
            self.assertLessEqual(len([at for at in begun if now - at < 60_000]), 4)
            self.assertLessEqual(known.used, 100)
            self.assertLessEqual(meter.running, 3)
            self.assertLessEqual(meter.used.get(PERIODS[0], 0) + meter.reserved, 900)
            session = str(number)
            if how == "fails":
                one.drop()
                continue
            one.bind(session)
            if how == "ends":
                one.leave()
                meter.settle(session, cost, now / 1000)
                budget += cost
                meter.used[PERIODS[0]] = budget
            else:
                running.append((one, session, cost))
        for each, session, cost in running:
            each.leave()
            meter.settle(session, cost, now / 1000)
        self.assertEqual((meter.running, meter.reserved, meter.unbound, meter.bySession), (0, 0, {}, {}))


class WordTests(MeterCase):
    """
    How things are said.
    """

    def test_durations(self) -> None:
        """
        As OpenAI says them.
        """
        for seconds, said in (
            *((0, "0s"), (0.0001, "1ms"), (0.12, "120ms"), (1, "1s"), (8.64, "8.64s"), (10, "10s")),
            *((59.9999, "1m0s"), (60, "1m0s"), (360, "6m0s"), (61.5, "1m1.5s")),
        ):
            self.assertEqual(durationFrom(seconds), said)

    def test_headers(self) -> None:
        """
        Of each limit that there is, what is left of it, and when all is.
        """
        self.letIn(30)
        self.now += 20
        self.letIn(90)
        limits = AccountLimits(rpm=3, tpm=100)
        self.assertEqual(
            dict(self.meter.headers(limits, self.now)),
            {
                b"x-ratelimit-limit-requests": b"3",
                b"x-ratelimit-remaining-requests": b"1",
                b"x-ratelimit-reset-requests": b"1m0s",
                b"x-ratelimit-limit-tokens": b"100",
                b"x-ratelimit-remaining-tokens": b"0",
                b"x-ratelimit-reset-tokens": b"1m0s",
            },
        )
        self.assertEqual(dict(self.meter.headers(AccountLimits(concurrent=1), self.now)), {})

    def test_periods(self) -> None:
        """
        In UTC.
        """
        self.assertEqual(periodsAt(NOW), ("2026-05-30", "2026-05"))
        self.assertEqual(periodsAt(NOW + 86_400 + 86_399), ("2026-05-31", "2026-05"))
        self.assertEqual(periodsAt(NOW + 2 * 86_400), ("2026-06-01", "2026-06"))
