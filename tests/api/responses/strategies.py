"""
Answers of any kind, for property tests.
"""

from __future__ import annotations

from hypothesis import strategies as st

from openai_server.api.inquiry import Call
from openai_server.api.output import Failed, Finished, Output, Reasoning, Text, ToolCalls, Usage, WorkerTool
from openai_server.errors import APIError

USAGE = Usage(1, 2)

#: Short texts.
words = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
_shown: st.SearchStrategy[Output] = st.one_of(
    st.builds(Text, st.lists(words, min_size=1, max_size=4)),
    st.builds(Reasoning, words),
    st.builds(WorkerTool, st.sampled_from(["mcp__a__b", "Bash"]), st.booleans(), st.sampled_from(["", "1"])),
    st.builds(
        WorkerTool,
        st.just("Bash"),
        st.just(True),
        st.sampled_from(["", "1"]),
        words,
        words,
        st.booleans(),
    ),
)
_calls = st.lists(
    st.builds(Call, words, words, words, st.sampled_from(["function", "custom"])), min_size=1, max_size=3
)
_ends: st.SearchStrategy[list[Output]] = st.one_of(
    st.builds(
        lambda reason: [Finished(reason, USAGE)], st.sampled_from(["stop", "length", "content_filter"])
    ),
    st.builds(lambda calls: [ToolCalls(tuple(calls)), Finished("tool_calls", USAGE)], _calls),
    st.just([Failed(APIError("worker_error", "No."))]),
)
#: All of an answer, with its end.
answers = st.builds(lambda shown, end: [*shown, *end], st.lists(_shown, max_size=8), _ends)
