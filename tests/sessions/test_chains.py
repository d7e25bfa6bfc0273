"""
Chains of digests over transcripts.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.inquiry import Message
from openai_server.sessions.chains import Chain, Transcript
from openai_server.sessions.entries import Entry
from tests.support import SyncCase

entries = st.builds(
    Entry,
    st.sampled_from(["user", "assistant", "tool"]),
    st.sampled_from(["", "a", "b", "ab"]),
    st.sampled_from([(), ("a",), ("a", "b"), ("ab",)]),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([None, "a"]),
)
transcripts = st.lists(entries, max_size=4)


def digests(history: list[Entry]) -> list[bytes]:
    """
    The digest before each of these, and behind the last.
    """
    transcript = Transcript(history)
    return [transcript.digestBefore(at) for at in range(len(history) + 1)]


class ChainTests(SyncCase):
    @settings(deadline=None, max_examples=200)
    @given(transcripts, transcripts)
    def test_equalDigestsMeanEqualMessages(self, one: list[Entry], other: list[Entry]) -> None:
        """
        Two transcripts meet in a digest exactly where they have the same
        messages.
        """
        first, second = digests(one), digests(other)
        for at in range(len(one) + 1):
            for also in range(len(other) + 1):
                self.assertEqual(first[at] == second[also], one[:at] == other[:also])

    @settings(deadline=None, max_examples=100)
    @given(transcripts, st.integers(0, 4), st.booleans())
    def test_sameDigestByWhateverWay(self, history: list[Entry], cut: int, answersFirst: bool) -> None:
        """
        A transcript that grew piece by piece has the digests of one that came
        whole, whichever of them is asked for first.
        """
        transcript = Transcript([Entry("system", "s"), *history])
        found = digests(history)
        behind = {at + 2: found[at + 1] for at, entry in enumerate(history) if entry.role == "assistant"}
        if answersFirst:
            self.assertEqual(transcript.answered, behind)
        self.assertEqual(transcript.whole.digest, found[-1])
        self.assertEqual((transcript.answered, list(transcript.answered)), (behind, sorted(behind)))
        chain = Chain(history[:cut])
        longer = chain.copy()
        longer.extend(history[cut:])
        self.assertEqual((longer.digest, chain.digest), (found[-1], found[min(cut, len(history))]))

    @settings(deadline=None, max_examples=100)
    @given(transcripts, st.integers(0, 4))
    def test_goesOnFromADigest(self, history: list[Entry], cut: int) -> None:
        """
        Whoever has kept nothing but a digest goes on from it as from the
        transcript.
        """
        chain = Chain(history[cut:], digests(history)[min(cut, len(history))])
        self.assertEqual(chain.digest, Chain(history).digest)

    def test_systemPromptIsNotInTheChain(self) -> None:
        """
        What stands before the head's end belongs to the context; a later
        instruction belongs to the transcript.
        """
        said = [Message("user", "a"), Message("system", "and be brief")]
        head = [Message("system", "s"), Message("system", "d")]
        transcript, bare = Transcript.fromMessages([*head, *said]), Transcript.fromMessages(said)
        self.assertEqual(transcript.leading, 2)
        for at in range(3):
            self.assertEqual(transcript.digestBefore(2 + at), bare.digestBefore(at))
        self.assertEqual(transcript.digestBefore(2), Chain().digest)

    def test_onlySystemMessages(self) -> None:
        """
        A request that says nothing has the digest of nothing.
        """
        transcript = Transcript([Entry("system", "s")])
        self.assertEqual((transcript.whole.digest, transcript.leading), (Chain().digest, 1))


class ShapeTests(SyncCase):
    def test_lone(self) -> None:
        """
        Lone is one user's message, with system messages at most.
        """
        for roles, isLone in [
            ("user", True),
            ("system user", True),
            ("system system user system", True),
            ("", False),
            ("system", False),
            ("user user", False),
            ("assistant", False),
            ("user assistant", False),
            ("assistant user", False),
            ("tool", False),
            ("tool user", False),
            ("user function", False),
        ]:
            transcript = Transcript([Entry(role) for role in roles.split()])
            self.assertEqual(transcript.isLone, isLone, roles)

    def test_history(self) -> None:
        """
        Whoever shows an assistant's message keeps history.
        """
        self.assertTrue(Transcript([Entry("assistant"), Entry("user")]).showsHistory)
        self.assertFalse(Transcript([Entry("system"), Entry("user")]).showsHistory)
