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
from openai_server.metrics import Counters
from openai_server.reports import RequestReports, TurnReports
from openai_server.sessions.answerkeys import AnswerKeys
from openai_server.sessions.retries import Retries
from openai_server.sessions.upstreams import NamedDaemon
from openai_server.store.interfaces import Bounds, Store
from openai_server.store.membership import Membership
from openai_server.store.opening import VolatileStore
from openai_server.store.sharedrecords import recordsOf
from openai_server.web.admission import Admission
from openai_server.web.asking import Asking, Told
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
        state = store.state
        self._configuration = configuration
        self.membership = Membership(store, hid, clock)
        accounts = self.accounts = Accounts(
            clock,
            store.accounts,
            state,
            state.secret("accounts"),
            now,
            configuration.apiKey,
            needsKey=whyKeyNeeded(configuration) is not None,
        )
        limiter = accounts.limiter
        self.activity = Activity(now)
        told = Told(
            TurnReporter([limiter], [self.activity, store.ledger, *turnReports], accounts.keys.labelOf),
            lambda context: limiter.turnLeft(context.account, nameOf(context)),
            onBroughtBack,
        )
        asking = self._asking = Asking(
            clock,
            configuration,
            daemons,
            state,
            told,
            counters or Counters(),
            hid=hid,
            runtimeDirectory=runtimeDirectory,
            now=now,
        )
        upstreams, self.submitter = asking.upstreams, asking.submitter
        self.models = OfferedModels(configuration.models, upstreams.registry, now)
        self.retries: Retries[Response] = Retries(clock)
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
            asking.restoration,
            self._keys,
        )
        self.completion = Completion(self.submitter, start, kept, limiter, asking.takenNames)
        hosts = (*configuration.allowedHosts, *boundHosts)
        admission = Admission(accounts.keys, hosts, configuration.corsOrigins, limiter)
        isKept = configuration.keptResponses > 0
        self.page = Page(
            now,
            self.activity,
            self.submitter,
            self.models.ids,
            lambda: store.whyDegraded,
            accounts.keys,
        )
        inputs = InputTokens(responses, kept, self.submitter, asking.takenNames)
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
        Begin, with what earlier processes have left.
        """
        super().startService()
        self.accounts.start()
        self.membership.startService()
        self._asking.start()

    def stopService(self) -> None:
        """
        Turn away whoever still waits, and remove all files.
        """
        super().stopService()
        self.accounts.stop()
        self.kept.stop()
        self._turnAway()
        self.completion.stop()
        self._asking.stop()
        self.membership.stopService()

    def change(self, configuration: Configuration) -> None:
        """
        Let other settings hold from now on: those that can change.
        """
        self._configuration = configuration
        self.models.change(configuration.models)
        self._asking.change(configuration)

    def _defaultModel(self) -> str | None:
        return self._configuration.defaultModel or self.models.only()

    def _turnAway(self) -> None:
        self.page.stop()
        self._exchanges.stop()
        if self._keys is not None:
            self._keys.stop()
        self.submitter.stop()


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
