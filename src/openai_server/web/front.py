# -*- test-case-name: tests.test_world -*-
"""
The HTTP side as one service: its parts, joined.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime

from openai_server.accounts.accounts import Accounts
from openai_server.api.dialect import Dialect
from openai_server.api.ids import newToken
from openai_server.api.responses.conversations import Conversations
from openai_server.config import Configuration, whyKeyNeeded
from openai_server.daemon.interfaces import Bee
from openai_server.metrics import Counters
from openai_server.reports import RequestReports, TurnReports
from openai_server.sessions.adoption import Adoption, Surroundings
from openai_server.sessions.answerkeys import AnswerKeys
from openai_server.sessions.calls import CallTable
from openai_server.sessions.hints import SessionKeys
from openai_server.sessions.lasting import LastingSessions
from openai_server.sessions.memory import Memory, SessionMemory
from openai_server.sessions.owntools import OwnTools
from openai_server.sessions.parkedturns import LastingTurns
from openai_server.sessions.plans import UserHint
from openai_server.sessions.pool import Limits
from openai_server.sessions.restoring import Restoration
from openai_server.sessions.retries import Retries
from openai_server.sessions.sharedturns import SharedTurns
from openai_server.sessions.sharing import SharedSessions
from openai_server.sessions.upstreams import NamedDaemon, Upstream, Upstreams
from openai_server.store.interfaces import Bounds, StateStore, Store
from openai_server.store.membership import Membership
from openai_server.store.opening import VolatileStore
from openai_server.store.sharedrecords import recordsOf
from openai_server.translate.names import TakenNames
from openai_server.web.admission import Admission
from openai_server.web.attachments import AttachmentFolder
from openai_server.web.completion import Completion
from openai_server.web.conversations import ConversationRoutes
from openai_server.web.exchanges import Exchanges
from openai_server.web.inputtokens import InputTokens
from openai_server.web.kept import KeptAnswers
from openai_server.web.keptchats import KeptChats
from openai_server.web.keptresponses import KeptResponses
from openai_server.web.locks import leasesOver
from openai_server.web.models import OfferedModels
from openai_server.web.organization import Organization
from openai_server.web.page.activity import Activity
from openai_server.web.page.page import Page
from openai_server.web.response import Response
from openai_server.web.routes import Answer, Routes
from openai_server.web.sealing import SealingKey
from openai_server.web.sharedanswers import sharedAnswersOver
from openai_server.web.site import APISite
from openai_server.web.sockets import ResponsesSockets
from openai_server.web.spoken import SpokenDialects
from openai_server.web.submission import Submitter
from openai_server.web.survivors import Survivors
from openai_server.web.turnreports import TurnReporter, nameOf
from openai_server.web.turnstart import TurnStart


class WebFront(Service):
    """
    Everything from the HTTP connection to the daemon's seam.

    @ivar site: the protocol factory.
    @ivar submitter: what all questions share.
    @ivar completion: what answers all requests.
    @ivar models: what can be asked for.
    @ivar accounts: who may ask.
    @ivar kept: the answers that can be asked for again.
    @ivar activity: what has happened lately.
    @ivar page: what a browser is shown.
    @ivar membership: tells which of the processes that share the store live.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        configuration: Configuration,
        daemons: Sequence[NamedDaemon],
        hid: str,
        runtimeDirectory: Path,
        boundHosts: Sequence[str] = (),
        now: Callable[[], float] = time.time,
        dialects: Mapping[str, Dialect] | None = None,
        store: Store | None = None,
        counters: Counters | None = None,
        requestReports: Sequence[RequestReports] = (),
        isTraced: bool = False,
        beside: Sequence[tuple[str, str, Answer]] = (),
        turnReports: Sequence[TurnReports] = (),
        onBroughtBack: Callable[[], object] = lambda: None,
    ) -> None:
        """
        @param daemons: those that are asked, one at least.
        @param hid: this bee's own, whose tools in the registry are no others'. No other
            process that runs has it: by it, this one owns what it saves.
        @param runtimeDirectory: where the folder for attachments is made.
        @param boundHosts: the addresses that the ports are bound to.
        @param now: the wall clock, in seconds since 1970.
        @param dialects: what else is spoken at which path.
        @param store: what lasts, opened; without one nothing outlasts this object.
        @param requestReports: who hears of the end of each request.
        @param isTraced: whether they want to know in which trace it is.
        @param beside: method, template and function of routes that are not
            OpenAI's.
        @param turnReports: who hears of turns that are over.
        @param onBroughtBack: called when some more is there again, for long, of
            what an earlier process had.
        """
        store = store or VolatileStore(clock, boundsFrom(configuration), now)
        self.membership = Membership(store, hid, clock)
        ownTools = OwnTools(configuration.ownTools, configuration.allowedTools, configuration.disallowedTools)
        limits, room = _limitsFrom(configuration), ownTools.roomBeside
        upstreams = Upstreams([Upstream(each, clock, limits, room) for each in daemons])
        self.models = OfferedModels(configuration.models, upstreams.registry, now)
        self.retries: Retries[Response] = Retries(clock)
        state, lasting, turns = store.state, None, None
        if state.lasts:
            lasting = LastingSessions(state, now)
            turns = LastingTurns(state, lasting, upstreams, clock, now, hid)
        accounts = self.accounts = Accounts(
            clock,
            store.accounts,
            store.state,
            store.state.secret("accounts"),
            now,
            configuration.apiKey,
            needsKey=whyKeyNeeded(configuration) is not None,
        )
        memory = SessionMemory(
            clock,
            SessionKeys(store.state.secret("hints")),
            _memoryFrom(configuration),
            lasting,
            upstreams.canGoOn,
        )
        self.activity = Activity(now)
        self.submitter = Submitter(
            clock=clock,
            configuration=configuration,
            upstreams=upstreams,
            memory=memory,
            ownTools=ownTools,
            calls=CallTable(clock, turns),
            folder=AttachmentFolder(clock, runtimeDirectory),
            counters=counters or Counters(),
            reporter=TurnReporter(
                [accounts.limiter], [self.activity, store.ledger, *turnReports], accounts.keys.labelOf
            ),
            turns=turns,
            sharing=SharedSessions(memory, lasting) if lasting is not None and lasting.isShared else None,
        )
        self._onBroughtBack = onBroughtBack
        self._restoration = (
            None if lasting is None or turns is None else self._restorationOf(state, lasting, turns, ownTools)
        )
        self._bees: Sequence[Bee] = ()
        self._taken = TakenNames()
        self._hid = hid
        self._configuration = configuration
        spoken = SpokenDialects(configuration, self._defaultModel, now, dialects or {})
        responses = spoken.responses
        shared = sharedAnswersOver(store, self.membership, clock, responses.interrupted)
        kept = self.kept = KeptAnswers(recordsOf(store, clock), SealingKey(state.secret("seals")), shared)
        survivors = Survivors()
        conversations = Conversations(
            responses.renderer, strict=configuration.strict, now=now, newToken=newToken
        )
        leases = leasesOver(state, self.membership, clock)
        self._exchanges = Exchanges(clock, conversations, kept, configuration.keptBytes, leases)
        self._keys = AnswerKeys(state, self.membership, clock, now) if state.lasts else None
        start = TurnStart(
            self.submitter,
            self.retries,
            self.models.isKnown,
            kept,
            self._exchanges,
            survivors,
            self._restoration,
            self._keys,
        )
        self.completion = Completion(self.submitter, start, kept, accounts.limiter, self._takenNames)
        hosts = (*configuration.allowedHosts, *boundHosts)
        admission = Admission(accounts.keys, hosts, configuration.corsOrigins, accounts.limiter)
        isKept = configuration.keptResponses > 0
        self.page = Page(
            now,
            self.activity,
            self.submitter,
            self.models.ids,
            lambda: store.whyDegraded,
            accounts.keys,
        )
        inputs = InputTokens(responses, kept, self.submitter, self._takenNames)
        further = [
            *KeptChats(spoken.chat, spoken.chat.name, kept).routes(),
            *KeptResponses(responses, kept, configuration.keepAliveInterval).routes(),
            *inputs.routes(),
            *Organization(store.ledger, now).routes(),
            *ConversationRoutes(conversations, kept, isKept).routes(),
            *self.page.routes(),
            *beside,
        ]
        routes = Routes(
            self.completion,
            spoken.byPath,
            self.models,
            admission,
            lambda: upstreams.whyNotReady,
            further,
            lambda: store.whyDegraded,
            self.page.files.answerBrowser,
            upstreams.away,
        )
        self.site = APISite(
            routes.resource(),
            clock,
            admission=admission,
            bodyLimit=configuration.bodyLimit,
            bodyBudget=configuration.bodyBudget,
            maxConnections=configuration.maxConnections,
            upgrades=ResponsesSockets(
                self.completion, responses, kept, admission.admit, keeps=isKept
            ),
            onStopping=self._turnAway,
            survivors=survivors,
            reports=[*requestReports, self.activity],
            isTraced=isTraced,
        )

    def startService(self) -> None:
        """
        Remove what dead processes left.
        """
        super().startService()
        self.accounts.start()
        self.membership.startService()
        self.submitter.folder.start()
        if self._restoration is not None:
            self._restoration.start()

    def stopService(self) -> None:
        """
        Turn away whoever still waits, and remove all files.
        """
        super().stopService()
        self.accounts.stop()
        self.kept.stop()
        self._turnAway()
        self.completion.stop()
        if self._restoration is not None:
            self._restoration.stop()
        self.submitter.folder.stop()
        self.membership.stopService()

    def change(self, configuration: Configuration) -> None:
        """
        Let other settings hold from now on: those that can change.
        """
        self._configuration = self.submitter.configuration = configuration
        self.models.change(configuration.models)
        self.submitter.upstreams.change(_limitsFrom(configuration))

    def _defaultModel(self) -> str | None:
        return self._configuration.defaultModel or self.models.only()

    def _restorationOf(
        self, state: StateStore, lasting: LastingSessions, turns: LastingTurns, ownTools: OwnTools
    ) -> Restoration:
        submitter = self.submitter
        around = Surroundings(
            submitter.clock,
            submitter.upstreams,
            submitter.memory,
            submitter.calls,
            submitter.counters,
            ownTools.learn,
            submitter.reporter.turnOver,
            lambda context: self.accounts.limiter.turnLeft(context.account, nameOf(context)),
            self._onBroughtBack,
        )
        adoption = Adoption(turns, around)
        shared = SharedTurns(state, turns, around, adoption) if turns.isShared else None
        return Restoration(lasting, turns, around, adoption, shared)

    def _turnAway(self) -> None:
        self.page.stop()
        self._exchanges.stop()
        if self._keys is not None:
            self._keys.stop()
        self.submitter.stop()

    def _takenNames(self) -> TakenNames:
        bees = self.submitter.upstreams.registry.bees()
        if bees is not self._bees:
            self._bees = bees
            others = [bee for bee in bees if bee.hid != self._hid]
            self._taken = TakenNames(
                frozenset(name for bee in others for name in bee.tools),
                frozenset(each for bee in others for each in bee.provides),
            )
        return self._taken


def _memoryFrom(configuration: Configuration) -> Memory:
    return Memory(continuation=configuration.continuation, userHint=UserHint(configuration.userHint))


def boundsFrom(configuration: Configuration) -> Bounds:
    """
    Return how much is kept.
    """
    return Bounds(
        configuration.keptResponses,
        configuration.keptBytes,
        configuration.keptAge,
        configuration.ledgerDays * 86400.0,
    )


def _limitsFrom(configuration: Configuration) -> Limits:
    return Limits(
        maxTurns=configuration.maxTurns,
        queueLength=configuration.queueLength,
        queueTimeout=configuration.queueTimeout,
    )
