"""
Chains of digests over transcripts.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.messages import Message
from openai_server.sessions.chains import START, Transcript, extended
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


class ChainTests(SyncCase):
    @settings(deadline=None, max_examples=200)
    @given(transcripts, transcripts)
    def test_equalDigestsMeanEqualMessages(self, one: list[Entry], other: list[Entry]) -> None:
        """
        Two transcripts meet in a digest exactly where they have the same
        messages.
        """
        first, second = Transcript(one).digests, Transcript(other).digests
        for at in range(len(one) + 1):
            for also in range(len(other) + 1):
                self.assertEqual(first[at] == second[also], one[:at] == other[:also])

    def test_extendedGoesOn(self) -> None:
        """
        A digest that is extended by an entry is the longer transcript's.
        """
        history = [Entry("user", "a"), Entry("assistant", "b"), Entry("user", "c")]
        self.assertEqual(
            extended(Transcript(history[:2]).digests[-1], history[2]), Transcript(history).digests[-1]
        )

    def test_systemPromptIsNotInTheChain(self) -> None:
        """
        What stands before the head's end belongs to the context; a later
        instruction belongs to the transcript.
        """
        said = [Message("user", "a"), Message("system", "and be brief")]
        head = [Message("system", "s"), Message("developer", "d")]
        transcript = Transcript.fromMessages([*head, *said])
        self.assertEqual(transcript.leading, 2)
        self.assertEqual(transcript.digests, Transcript.fromMessages(said).digests)
        self.assertEqual(len(transcript.digests), 3)
        self.assertEqual(transcript.digestBefore(2), START)
        self.assertEqual(transcript.digestBefore(3), transcript.digests[1])

    def test_onlySystemMessages(self) -> None:
        """
        A request that says nothing has the digest of nothing.
        """
        transcript = Transcript([Entry("system", "s")])
        self.assertEqual((transcript.digests, transcript.leading), ([START], 1))


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
