-- Events: what other programs are told of orders and stock, at least once.
--
-- Nothing is rewritten. Processes of the release before go on as they are; what they change has no events, which is
-- why the workers come before ingest in an upgrade, and why events are complete once every process is upgraded.

-- One row for each settlement, and each change by an administrator, whose events are not out yet. The events
-- themselves are made again from the rows that carry its time.
create table event_outbox (
    id     bigint generated always as identity,
    -- The time of the settlement or change.
    at     timestamptz not null,
    -- From when on anybody may publish them; until then it is for the process that committed it.
    due_at timestamptz not null,
    -- An event that no other table can give again.
    event  json,
    constraint event_outbox_pkey primary key (id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- What was told of the stock: changes by administrators, and SKUs that were sold out or have goods again. Kept as
-- long as orders are.
create table inventory_changes (
    sku       text collate "C" not null,
    -- That of the inventory row. No unique constraint: nothing may stop a settlement.
    version   bigint not null,
    available bigint not null,
    held      bigint not null,
    cause     text not null,
    at        timestamptz not null,
    constraint inventory_changes_cause_known check (cause in ('put', 'patch', 'restock', 'sold_out', 'reopened'))
);
create index inventory_changes_by_time on inventory_changes (at);

create index unmatched_payments_by_time on unmatched_payments (at);

-- Counts how often the stream of events was made anew: offsets of one generation mean nothing in the next.
create table event_stream (
    is_only    boolean not null default true,
    generation bigint not null default 0,
    constraint event_stream_pkey primary key (is_only),
    constraint event_stream_is_one check (is_only)
);
insert into event_stream default values;
