-- Webhooks: events for programs elsewhere, one request each, until the receiver takes it or the attempts are over.
--
-- Nothing is rewritten, and nothing that settles an order reads or writes these tables. Processes of the release before
-- know nothing of them.

-- Where events are sent.
create table webhooks (
    id              uuid not null,
    url             text not null,
    -- The words of the types that it is sent.
    types           text[] not null,
    description     text,
    -- Encrypted by a key that is not in the database.
    secret          bytea not null,
    -- The secret before, which still signs until then.
    previous_secret bytea,
    previous_secret_until timestamptz,
    -- A deleted endpoint stays until its deliveries are removed, which may be many.
    state           text not null default 'enabled',
    disabled_at     timestamptz,
    disabled_reason text,
    -- Nothing that happened before is sent: the stream holds a week, and nobody asked for it.
    events_since    timestamptz not null,
    -- The receiver asked to be left alone until then.
    paused_until    timestamptz,
    -- Since when no delivery has succeeded and at least one attempt has failed, and how many deliveries were given up
    -- since. Kept here because finished deliveries are removed before the five days are over that the rule looks at.
    failing_since   timestamptz,
    given_up        bigint not null default 0,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint webhooks_pkey primary key (id),
    constraint webhooks_state_known check (state in ('enabled', 'disabled', 'deleted')),
    constraint webhooks_disabled_has_a_reason check (
        (state <> 'disabled') or (disabled_at is not null and disabled_reason is not null)
    ),
    constraint webhooks_previous_secret_ends check ((previous_secret is null) = (previous_secret_until is null))
);

-- One row for each event and endpoint. No foreign key: each row that is copied would lock its endpoint's row, and an
-- endpoint is removed behind its deliveries.
create table webhook_deliveries (
    id              bigint generated always as identity,
    endpoint_id     uuid not null,
    event_id        text not null,
    type            text not null,
    event_time      timestamptz not null,
    -- The whole event, as it is sent.
    event           json not null,
    state           text not null default 'pending',
    -- Attempts that have ended.
    attempts        integer not null default 0,
    -- When the next attempt is due; while one is under way, when its lease ends.
    next_at         timestamptz not null,
    -- Set while an attempt is under way: a process that dies leaves a lease that runs out.
    leased_until    timestamptz,
    -- What came of the last attempt.
    outcome         text,
    status          smallint,
    finished_at     timestamptz,
    -- First the endpoint, because everybody asks by it.
    constraint webhook_deliveries_pkey primary key (endpoint_id, id),
    constraint webhook_deliveries_once unique (endpoint_id, event_id),
    constraint webhook_deliveries_state_known check (state in ('pending', 'delivered', 'failed')),
    constraint webhook_deliveries_finished check ((state = 'pending') = (finished_at is null))
-- Vacuumed often, because the index of what is due is emptied all the time.
) with (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 10000
);

-- What is due, endpoint by endpoint: a long backlog of one is no detour for another.
create index webhook_deliveries_due on webhook_deliveries (endpoint_id, next_at) where finished_at is null;

-- What is under way: a handful of rows, counted before each claim.
create index webhook_deliveries_leased on webhook_deliveries (endpoint_id) where leased_until is not null;

-- What may be removed.
create index webhook_deliveries_finished on webhook_deliveries (finished_at) where finished_at is not null;

-- How far the stream of events has been copied. In the transaction of the rows, so that no event is left out.
create table webhook_position (
    is_only     boolean not null default true,
    -- Of which generation of the stream; none before the first start.
    generation  bigint,
    -- The next message to be copied; none is the first that there is.
    next_offset bigint,
    -- Set while messages are read from the first one on because the stream is a new one: until events come that are
    -- newer than this, old ones may be repeats of deliveries that are removed already.
    catching_up_since timestamptz,
    constraint webhook_position_pkey primary key (is_only),
    constraint webhook_position_is_one check (is_only)
);
insert into webhook_position default values;
