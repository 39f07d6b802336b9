"""The composition root: builds the application out of its parts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from weakref import WeakKeyDictionary

from azure.identity.aio import DefaultAzureCredential

from domain.access.limits import LimitsStore
from domain.access.store import ApiKeys
from domain.application.admission import Admission
from domain.application.handler import Change, CommandHandler
from domain.application.process_manager import ProcessManager
from domain.application.repository import IntentRepository
from domain.application.service import IntentService
from domain.application.steps import Steps
from domain.database.migrate import check_schema, migrate
from domain.database.pool import ANSWER_SECONDS, Pool, open_pool
from domain.eventlog.intent_streams import UnreadableStream
from domain.eventlog.log import EventLog
from domain.eventlog.models import RecordedEvent
from domain.health import Health
from domain.memory import tune_gc
from domain.messaging.backlog import Backlog
from domain.messaging.bus import make_publisher
from domain.messaging.dead_letter_watch import DeadLetterWatch
from domain.messaging.direct import RELAY_MIN_AGE, DirectPublisher
from domain.messaging.held import HeldMessages, relay_source
from domain.messaging.inbox import Inbox
from domain.messaging.publisher import ServiceBusPublisher
from domain.messaging.recovery import Recovery
from domain.messaging.redelivery import Redelivery
from domain.messaging.rejected import UNREADABLE_STREAM, RejectedMessages
from domain.messaging.relay import Relay
from domain.messaging.routing import Destinations, Router
from domain.models.client import open_client
from domain.operations.over_http import Operations
from domain.planning.planner import make_planner
from domain.planning.solved import SolvedInLog
from domain.projections.intents import IntentReads
from domain.projections.registry import Projections
from domain.projections.watcher import IntentWatcher
from domain.runs.artifacts import Artifacts
from domain.runs.heartbeat import Heartbeats
from domain.runs.inputs import RunInputs
from domain.runs.output import RunOutput
from domain.runs.status import RunStatuses
from domain.runs.tokens import RunTokens
from domain.sealing.places import anchor_at, key_at
from domain.sealing.sealer import Sealer
from domain.settings import Settings
from domain.similarity.embedder_registry import EmbedderRegistry
from domain.similarity.models import adopt_model, wanted_model
from domain.similarity.search import SimilaritySearch
from domain.similarity.status import EmbedderStatus
from domain.similarity.store import EmbeddingStore
from domain.similarity.sweep import EmbeddingSweep


@dataclass(frozen=True, slots=True)
class App:
    """The application's parts, as the functions use them.

    Nothing closes them: a worker can be killed at any time, so nothing may depend on a clean
    shutdown.
    """

    settings: Settings
    pool: Pool
    publisher: ServiceBusPublisher
    keys: ApiKeys
    repository: IntentRepository
    reads: IntentReads
    service: IntentService
    inbox: Inbox
    relay: Relay
    recovery: Recovery
    dead_letters: DeadLetterWatch
    held: HeldMessages
    projections: Projections
    sealer: Sealer
    watcher: IntentWatcher
    tokens: RunTokens
    heartbeats: Heartbeats
    run_statuses: RunStatuses
    run_output: RunOutput
    artifacts: Artifacts
    run_inputs: RunInputs
    search: SimilaritySearch
    embedding_sweep: EmbeddingSweep
    embedder_status: EmbedderStatus
    health: Health
    operations: Operations


def _now() -> datetime:
    return datetime.now(UTC)


async def open_app(settings: Settings) -> App:
    """Connect and compose; applies pending migrations where an admin URL is configured.

    Raises:
        SchemaOutOfDate: the schema is behind and no admin URL is configured.
        psycopg.OperationalError, psycopg_pool.PoolTimeout: the database cannot be reached.
    """
    tune_gc()
    if settings.database_admin_url:
        await migrate(settings.database_admin_url)
    pool = await open_pool(
        settings.database_url,
        min_size=2,
        max_size=settings.database_pool_size,
        application_name="qlp",
        answer_seconds=ANSWER_SECONDS,
    )
    try:
        await check_schema(pool)
        await adopt_model(pool, wanted_model(settings))
    except BaseException:
        await pool.close()
        raise
    app = _compose(settings, pool)
    app.relay.wake()  # publishes what the last process left unpublished
    return app


def _compose(settings: Settings, pool: Pool) -> App:
    log = EventLog(pool)
    repository = IntentRepository(log)
    reads = IntentReads(pool)
    keys = ApiKeys(pool)
    rejected = RejectedMessages(pool)
    run_statuses, run_output = RunStatuses(pool), RunOutput(pool)
    artifacts = Artifacts(pool)
    dead_letters = DeadLetterWatch(settings, rejected)
    projections = Projections(pool)
    identity = DefaultAzureCredential() if settings.needs_identity else None
    models = open_client(settings, identity)
    embedders = EmbedderRegistry(models)
    sweep = EmbeddingSweep(pool, embedders)
    embeddings = EmbeddingStore(pool, embedders, sweep.wake)
    embedder_status = EmbedderStatus(pool, embedders, wanted_model(settings))
    publisher = make_publisher(settings, [settings.events_topic, settings.jobs_queue], identity)

    async def set_aside(record: RecordedEvent, error: Exception) -> None:
        await rejected.record(
            source=relay_source(record.event_id),
            tenant_id=record.tenant_id,
            reason=UNREADABLE_STREAM if isinstance(error, UnreadableStream) else "Unpublishable",
            description=str(error),
            body=b"",
            message_id=str(record.event_id),
            traceparent=record.traceparent,
        )

    destinations = Destinations(
        settings.events_topic, settings.jobs_queue, settings.announce_every_event
    )
    tokens, limits = settings.run_tokens, LimitsStore(pool)
    router = Router(repository, destinations, tokens)
    min_age = 0.0 if router.every_event else RELAY_MIN_AGE
    relay = Relay(pool, router, publisher, set_aside, min_age)
    backlog = Backlog(
        publisher.connect,
        jobs_queue=settings.jobs_queue,
        results_queue=settings.results_queue,
        events_topic=settings.events_topic,
        events_subscription=settings.events_subscription,
    )
    watcher = IntentWatcher(reads)

    direct = DirectPublisher(pool, router, publisher, relay)

    def on_change(change: Change) -> None:
        state = change.state
        watcher.hint(state.id, state.version, state.status.value)
        direct.publish(change)

    search = SimilaritySearch(pool, embeddings)
    solved = SolvedInLog(reads, repository, search)
    planner = make_planner(settings, models, pool, solved)
    steps = Steps(planner, embeddings, limits, _now)
    handler = CommandHandler(repository, on_change, steps)
    service = IntentService(repository, handler, Admission(limits), _now)
    process_manager = ProcessManager(repository, handler, steps)
    inbox = Inbox(service, repository, handler, process_manager, keys, artifacts, rejected, _now)
    handlers = {
        settings.intents_queue: inbox.intent,
        settings.events_topic: inbox.announcement,
        settings.results_queue: inbox.result,
    }
    return App(
        settings=settings,
        pool=pool,
        publisher=publisher,
        keys=keys,
        repository=repository,
        reads=reads,
        service=service,
        inbox=inbox,
        relay=relay,
        recovery=Recovery(
            *(reads, repository, relay, backlog, _now),
            timedelta(seconds=settings.stalled_after_seconds),
        ),
        dead_letters=dead_letters,
        held=HeldMessages(rejected, handlers, log, relay),
        projections=projections,
        sealer=Sealer(
            pool, key_at(settings.seal_signer, identity), anchor_at(settings.seal_anchor, identity)
        ),
        watcher=watcher,
        tokens=tokens,
        heartbeats=Heartbeats(tokens, run_statuses, run_output),
        run_statuses=run_statuses,
        run_output=run_output,
        artifacts=artifacts,
        run_inputs=RunInputs(repository, artifacts),
        search=search,
        embedding_sweep=sweep,
        embedder_status=embedder_status,
        health=Health(
            *(settings, pool, log, projections, publisher, embedder_status),
            dead_letters,
        ),
        operations=Operations(settings, pool, log, repository, publisher),
    )


_opening: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[App]] = WeakKeyDictionary()


async def get_app() -> App:
    """The application of this worker process, opened at the first call on the running loop.

    A failed opening is tried again at the next call, so that a function app that starts before its
    database serves as soon as the database does.

    Raises:
        InvalidSettings: a setting is missing or wrong.
        see `open_app`.
    """
    loop = asyncio.get_running_loop()
    task = _opening.get(loop)
    if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
        task = loop.create_task(open_app(Settings.from_environment()), name="open-app")
        _opening[loop] = task
    return await asyncio.shield(task)


_redeliveries: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Settings, Redelivery]] = (
    WeakKeyDictionary()
)


def redelivery() -> tuple[Settings, Redelivery]:
    """The redelivery of failed messages on the running loop, and the settings it was made from.

    With a connection of its own, so that it works while the application cannot be opened.

    Raises:
        InvalidSettings: a setting is missing or wrong.
    """
    loop = asyncio.get_running_loop()
    if loop not in _redeliveries:
        settings = Settings.from_environment()
        identity = DefaultAzureCredential() if settings.bus_by_identity else None
        _redeliveries[loop] = settings, Redelivery(make_publisher(settings, [], identity))
    return _redeliveries[loop]
