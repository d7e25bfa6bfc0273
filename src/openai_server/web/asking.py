# -*- test-case-name: tests.flow -*-
"""
A question on its way to the daemon: its session, its files, its slot, its
prompt; and what has to be given back when the turn is over.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from openai_server.api.inquiry import Message
from openai_server.config import Configuration
from openai_server.daemon.interfaces import Daemon
from openai_server.errors import APIError
from openai_server.metrics import Counters
from openai_server.sessions.calls import CallTable
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.memory import SessionMemory
from openai_server.sessions.plans import Kind, Session, SessionPlan
from openai_server.sessions.pool import Slot
from openai_server.sessions.slots import Slots
from openai_server.sessions.terms import OUR_PREFIX, Answer, Terms
from openai_server.translate.attachments import Attached
from openai_server.translate.prompt import (
    PromptText,
    promptFrom,
    textFromInquiry,
    textFromTail,
)
from openai_server.web.attachments import AttachmentFolder, Stored
from openai_server.web.incoming import Incoming


@dataclass(frozen=True)
class Desk:
    """
    All that questions share.
    """

    clock: IReactorTime
    configuration: Configuration
    daemon: Daemon
    memory: SessionMemory
    slots: Slots
    calls: CallTable
    folder: AttachmentFolder
    counters: Counters

    async def ask(
        self,
        incoming: Incoming,
        answerFor: Callable[[Conversation, SessionPlan], Answer],
        session: Session | None = None,
    ) -> None:
        """
        Ask what a request asks, on the session that it gets.

        @param answerFor: makes the answer that attends the turn from its
            beginning.
        @param session: the one to go on in, if that is possible, although the
            transcript does not say so.
        @raise APIError: it was not asked, and nothing is left behind.
        """
        self._checkDaemon()
        plan = self.memory.goOn(session, incoming.asked) if session is not None else None
        if plan is None:
            plan = await self.memory.claim(incoming.asked)
        try:
            await self._askOn(plan, incoming, answerFor)
        except BaseException:
            self.memory.giveBack(plan)
            raise

    def _checkDaemon(self) -> None:
        why = self.daemon.whyNotReady
        if why is not None:
            raise APIError("daemon_unavailable", "The daemon is not connected.", retryAfter=1)

    async def _askOn(
        self, plan: SessionPlan, incoming: Incoming, answerFor: Callable[[Conversation, SessionPlan], Answer]
    ) -> None:
        text = _textFrom(plan, incoming)
        files = await self._store(text)
        try:
            slot = await self.slots.acquire(incoming.inquiry.model, incoming.account, incoming.catalogue)
            try:
                conversation = self._begun(plan, incoming, text, files, slot, answerFor)
            except BaseException:
                slot.release()
                raise
        except BaseException:
            _release(files)
            raise
        conversation.whenOver().addCallback(lambda _: _release(files))
        conversation.whenSettled().addCallback(lambda mayGoOn: self.memory.release(plan.session, mayGoOn))

    def _begun(
        self,
        plan: SessionPlan,
        incoming: Incoming,
        text: PromptText,
        files: Sequence[Stored | None],
        slot: Slot,
        answerFor: Callable[[Conversation, SessionPlan], Answer],
    ) -> Conversation:
        terms = self._terms(plan, incoming)
        conversation = Conversation(self.clock, terms, self.calls, slot, self.counters)
        hidden = (OUR_PREFIX + name for name in slot.hiddenNames)
        prompt = promptFrom(
            incoming.inquiry,
            text,
            rid=self.daemon.newRid(),
            sid=plan.sid,
            offer=incoming.offer,
            paths=[str(stored.path) if stored is not None else None for stored in files],
            sendAttachments=self.configuration.attachments != "file",
            cwd=self.configuration.cwd,
            allowedTools=self.configuration.allowedTools,
            disallowedTools=(*self.configuration.disallowedTools, *hidden),
        )
        answer = answerFor(conversation, plan)
        conversation.begin(answer, lambda: self.daemon.ask(prompt, conversation))
        return conversation

    def _terms(self, plan: SessionPlan, incoming: Incoming) -> Terms:
        names = incoming.offer.names
        definitions = incoming.offer.definitions
        return Terms(
            account=incoming.account,
            session=plan.session,
            names={each.name: names.clientName(each.name) or each.name for each in definitions},
            customTools=frozenset(each.name for each in definitions if names.kind(each.name) == "custom"),
            foreignTools=incoming.takenNames,
            parallel=incoming.inquiry.isParallel,
            collectWindow=self.configuration.collectWindow,
            parkTimeout=self.configuration.parkTimeout,
        )

    async def _store(self, text: PromptText) -> Sequence[Stored | None]:
        files: list[Stored | None] = []
        try:
            for attached in text.attachments:
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


def _release(files: Sequence[Stored | None]) -> None:
    for stored in files:
        if stored is not None:
            stored.release()


def _textFrom(plan: SessionPlan, incoming: Incoming) -> PromptText:
    boundary = secrets.token_hex(8)
    inquiry, start = incoming.inquiry, plan.start
    if plan.kind is not Kind.CONTINUED:
        return textFromInquiry(inquiry, boundary, incoming.offer)
    if plan.systemPrompt is not None:
        # A process that is started anew reads the system prompt of this prompt.
        said = Message(role="system", content=plan.systemPrompt)
        inquiry, start = inquiry.withMessages((said, *inquiry.messages)), start + 1
    return textFromTail(inquiry, start, boundary, incoming.offer)
