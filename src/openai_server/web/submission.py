# -*- test-case-name: tests.flow -*-
"""
A question on its way to the daemon: its session, its files, its slot, its
prompt; and what is given back when the turn is over.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import Final, TypeVar

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from openai_server.api.inquiry import Inquiry, Message
from openai_server.config import Configuration
from openai_server.errors import callExpired
from openai_server.metrics import Counters
from openai_server.sessions.calls import CallTable
from openai_server.sessions.catalogue.wirenames import PromptTools
from openai_server.sessions.chains import Transcript
from openai_server.sessions.contexts import ToolSet, contextFrom, toolSetFrom
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.hints import Hints
from openai_server.sessions.memory import SessionMemory
from openai_server.sessions.owntools import Left, OwnTools
from openai_server.sessions.parkedturns import LastingTurns
from openai_server.sessions.plans import Claim, Session, SessionKind, SessionPlan
from openai_server.sessions.pool import Slot
from openai_server.sessions.sharing import SharedSessions
from openai_server.sessions.turncontext import Attendant, EndedTurn, TurnContext
from openai_server.sessions.upstreams import Upstream, Upstreams
from openai_server.translate.attachments import Attached
from openai_server.translate.prompt import (
    PromptText,
    ownSystemText,
    promptFrom,
    textFromInquiry,
    textFromTail,
    wishesFrom,
)
from openai_server.translate.schema import checkSchema
from openai_server.translate.tools import Offer, offerFrom
from openai_server.web.attachments import AttachmentFolder, Stored
from openai_server.web.turnreports import TurnReporter
from openai_server.web.workfolder import workFolder
from openai_server.wire.hiding import OUR_PREFIX

_A = TypeVar("_A", bound=Attendant)
_NO_NAMES: Final[dict[str, str]] = {}
_NOTHING: Final[frozenset[str]] = frozenset()


class Submission:
    """
    One inquiry, with what is worked out of it once.

    @ivar api: the name of the dialect that it is asked in.
    @ivar cwd: the folder in which the worker is to work, if that is said.
    @ivar hints: of the session that it belongs to.
    @ivar onSending: called right before it goes out, and waited for.
    @ivar taken: names that no tool can have at the daemon.
    @ivar offer: the tools as the daemon carries them.
    @ivar tools: the same as sessions compare them, None for none.
    """

    __slots__ = (
        "account",
        "api",
        "cwd",
        "hints",
        "inquiry",
        "offer",
        "onSending",
        "taken",
        "tools",
        "transcript",
    )

    def __init__(
        self,
        account: str,
        api: str,
        inquiry: Inquiry,
        hints: Hints,
        taken: Container[str],
        former: Submission | None = None,
    ) -> None:
        """
        @param former: one with the same tools, which are not worked out again.
        @raise APIError: 400, the tools are no good.
        """
        self.account = account
        self.api = api
        self.cwd: str | None = None if former is None else former.cwd
        self.onSending: Callable[[], Deferred[bool]] | None = None if former is None else former.onSending
        self.inquiry = inquiry
        self.hints = hints
        self.taken = taken
        self.transcript = Transcript.fromMessages(inquiry.messages)
        self.offer: Offer = offerFrom(inquiry, taken) if former is None else former.offer
        self.tools: ToolSet | None = (
            toolSetFrom(self.offer.definitions) if former is None else former.tools
        )

    def claim(self, ownTools: OwnTools) -> Claim:
        """
        Return what decides about its session.
        """
        inquiry = self.inquiry
        *callWishes, format = wishesFrom(inquiry, self.offer)
        own = ownSystemText(inquiry)
        left = self.left(ownTools)
        context = contextFrom(
            inquiry.model, own, self.tools, *callWishes, format=format, cwd=self.cwd, ownTools=left
        )
        return Claim(self.account, self.hints, context, self.transcript, own, inquiry.isIsolated)

    def left(self, ownTools: OwnTools) -> Left:
        """
        Return what is left of the worker's own tools.
        """
        inquiry = self.inquiry
        bringsTools = bool(inquiry.tools)
        mayTake = bringsTools or not inquiry.mayAct
        bringsFiles = mayTake and any(message.hasMedia for message in inquiry.messages)
        return ownTools.left(bringsTools, bringsFiles, inquiry.mayAct)

    def toolsFor(self, session: Session) -> PromptTools | None:
        """
        Return the tools as this session offers them; None for none.
        """
        definitions = self.offer.definitions
        return PromptTools(definitions, session.wireNames, self.taken) if definitions else None

    def followedBy(self, *messages: Message) -> Submission:
        """
        Return the same question with a longer transcript.
        """
        return self.saying((*self.inquiry.messages, *messages))

    def naming(self, tools: Mapping[int, str]) -> Submission:
        """
        Return the same question, in which results say of which tool they are.

        @param tools: names by the index of the result's message.
        """
        messages = [
            replace(message, name=tools[at]) if at in tools else message
            for at, message in enumerate(self.inquiry.messages)
        ]
        return self.saying(tuple(messages))

    def saying(self, messages: tuple[Message, ...]) -> Submission:
        """
        Return the same question with another transcript.
        """
        inquiry = self.inquiry.withMessages(messages)
        return Submission(self.account, self.api, inquiry, self.hints, self.taken, self)


@dataclass
class Submitter:
    """
    Puts questions to the daemons: what all of them share.

    @ivar turns: the parked turns that outlast the process; None for none.
    @ivar sharing: the sessions, where other processes use them too.
    """

    clock: IReactorTime
    configuration: Configuration
    upstreams: Upstreams
    memory: SessionMemory
    ownTools: OwnTools
    calls: CallTable
    folder: AttachmentFolder
    counters: Counters
    reporter: TurnReporter
    turns: LastingTurns | None = None
    sharing: SharedSessions | None = None

    def submission(
        self,
        account: str,
        api: str,
        inquiry: Inquiry,
        hints: Hints,
        taken: Container[str],
        cwd: str | None = None,
    ) -> Submission:
        """
        Work out what an inquiry needs.

        @param api: the name of the dialect that it is asked in.
        @param taken: names that no tool can have at the daemon.
        @param cwd: the folder that it asks for, if it does.
        @raise APIError: 400, the schema or the tools are no good; 403, the
            folder is.
        """
        if inquiry.format.schema is not None:
            checkSchema(inquiry.format.schema, inquiry.format.param)
        submission = Submission(account, api, inquiry, hints, taken)
        submission.cwd = workFolder(cwd, self.configuration.cwdRoots) if cwd else self.configuration.cwd
        if submission.tools is not None:
            self.upstreams.check(submission.tools, inquiry.toolsParam)
        return submission

    def workedOut(self, inquiry: Inquiry, former: Submission) -> Submission:
        """
        Work out the same question anew, read with other records.
        """
        submission = self.submission(former.account, former.api, inquiry, former.hints, former.taken)
        submission.cwd = former.cwd
        return submission

    async def ask(
        self,
        submission: Submission,
        attend: Callable[[Conversation, SessionPlan], _A],
        session: Session | None = None,
    ) -> _A:
        """
        Ask, on the session that the question gets. Nothing is awaited unless
        it has to wait: for its session, for a file, for a slot.

        @param attend: makes the answer that attends the turn from its
            beginning.
        @param session: the one to go on in, although the transcript says
            nothing of it.
        @return: the answer.
        @raise APIError: it was not asked, and nothing is left behind:
            C{call_expired} where that session is not to be gone on with.
        """
        if self.upstreams.whyNotReady is not None:
            await self.upstreams.reach()
        claim = submission.claim(self.ownTools)
        if self.sharing is not None:
            plan = await self._sharedPlan(self.sharing, claim, session)
        elif session is not None:
            plan = self.memory.goOn(session, claim)
        else:
            claimed = self.memory.claim(claim)
            plan = claimed if isinstance(claimed, SessionPlan) else await claimed
        if plan is None:
            raise callExpired()
        files: Sequence[Stored | None] = ()
        slot: Slot | None = None
        try:
            if (written := self.memory.whenWritten(plan)) is not None:
                await written
            question = _questionFrom(plan, submission, submission.offer)
            if question.attachments:
                files = await self._store(question.attachments)
            upstream, slot = await self._place(plan, submission)
            if submission.onSending is not None:
                await submission.onSending()
            return self._begin(plan, submission, question, files, upstream, slot, attend)
        except BaseException:
            if slot is not None:
                slot.release()
            _release(files)
            self.memory.giveBack(plan)
            raise

    @staticmethod
    async def _sharedPlan(
        sharing: SharedSessions, claim: Claim, session: Session | None
    ) -> SessionPlan | None:
        return await (sharing.claim(claim) if session is None else sharing.goOn(session, claim))

    async def _place(self, plan: SessionPlan, submission: Submission) -> tuple[Upstream, Slot]:
        """
        Return the daemon to ask, and a slot there.
        """
        model, tools = submission.inquiry.model, submission.toolsFor(plan.session)
        while True:
            upstream = await self.upstreams.forPlan(plan, model)
            acquired = upstream.scheduler.acquire(model, submission.account, tools)
            slot = acquired if isinstance(acquired, Slot) else await acquired
            if not self.upstreams.isAnotherOneWanted(upstream, plan):
                plan.session.upstream = upstream.name
                return upstream, slot
            slot.release()

    def _begin(
        self,
        plan: SessionPlan,
        submission: Submission,
        question: PromptText,
        files: Sequence[Stored | None],
        upstream: Upstream,
        slot: Slot,
        attend: Callable[[Conversation, SessionPlan], _A],
    ) -> _A:
        configuration = self.configuration
        hidden = [OUR_PREFIX + name for name in slot.hiddenNames]
        offer = submission.offer
        former = () if slot.tools is None else tuple(slot.tools.former.values())
        if slot.tools is not None and slot.tools.renamed:
            offer = offerFrom(submission.inquiry, submission.taken, slot.tools.renamed)
            question = _questionFrom(plan, submission, offer)
        prompt = promptFrom(
            submission.inquiry,
            question,
            rid=upstream.daemon.newRid(),
            sid=plan.sid,
            offer=offer,
            paths=[str(stored.path) if stored is not None else None for stored in files],
            sendAttachments=configuration.attachments != "file",
            cwd=submission.cwd,
            allowedTools=configuration.allowedTools,
            disallowedTools=(*self.ownTools.disallowed(submission.left(self.ownTools)), *hidden),
        )
        conversation = Conversation(
            self.clock,
            self._context(plan, submission, slot),
            self.calls,
            slot,
            self.counters,
            self.memory.release,
            partial(self._over, files) if files else self.reporter.turnOver,
            self.ownTools.learn,
        )
        if files:
            conversation.onLeft = partial(_release, files)
        answer = attend(conversation, plan)
        conversation.begin(answer, upstream.daemon, prompt, former)
        return answer

    def _context(self, plan: SessionPlan, submission: Submission, slot: Slot) -> TurnContext:
        names = submission.offer.names
        shown: Mapping[str, str] = _NO_NAMES
        custom: frozenset[str] = _NOTHING
        if slot.tools is not None:
            usual = slot.tools.usual
            shown = {wire: names.clientName(name) or name for wire, name in usual.items()}
            custom = frozenset(wire for wire, name in usual.items() if names.kind(name) == "custom")
        return TurnContext(
            submission.account,
            submission.api,
            plan.session,
            shown,
            custom,
            submission.taken,
            submission.inquiry.isParallel,
            self.configuration.parkTimeout,
        )

    def _over(self, files: Sequence[Stored | None], turn: EndedTurn) -> None:
        _release(files)
        self.reporter.turnOver(turn)

    async def _store(self, attachments: Sequence[Attached]) -> Sequence[Stored | None]:
        files: list[Stored | None] = []
        try:
            for attached in attachments:
                stored = await self._stored(attached)
                files.append(stored)
        except BaseException:
            _release(files)
            raise
        return files

    async def _stored(self, attached: Attached) -> Stored | None:
        if attached.data is None:
            return None
        if self.configuration.attachments != "tone":
            return await self.folder.write(attached)
        await self.folder.check(attached)
        return None

    def stop(self) -> None:
        """
        Turn away everybody who waits, and whoever comes later.
        """
        self.memory.stop()
        self.upstreams.stop()


def _release(files: Sequence[Stored | None]) -> None:
    for stored in files:
        if stored is not None:
            stored.release()


def _questionFrom(plan: SessionPlan, submission: Submission, offer: Offer) -> PromptText:
    inquiry = submission.inquiry
    # A lone message of the user's stands as it is.
    isLone = len(inquiry.messages) == 1 and inquiry.messages[0].role == "user"
    boundary = "" if isLone and plan.systemPrompt is None else token_hex(8)
    if plan.kind is not SessionKind.CONTINUED:
        return textFromInquiry(inquiry, boundary, offer)
    if plan.systemPrompt is not None:
        # A process that is started anew reads the system prompt of this prompt.
        said = Message(role="system", content=plan.systemPrompt)
        inquiry = inquiry.withMessages((said, *inquiry.messages))
        return textFromTail(inquiry, plan.start + 1, boundary, offer)
    return textFromTail(inquiry, plan.start, boundary, offer)
