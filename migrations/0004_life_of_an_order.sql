-- The life of an order: goods are held until they are paid, released or expired. What settling first decided
-- of an order stays as it is; each later change is a row of its own, so that history, audit and events can be
-- made again from the tables.
--
-- Nothing is rewritten and no table is scanned. Processes of the release before go on as they are, as long as no
-- SKU has a hold: set holds once every process is upgraded.

alter table inventory
    -- Goods that left `available` for orders that are not paid yet.
    add column held             bigint not null default 0,
    -- How long an order of this SKU is held; none confirms at once.
    add column hold_seconds     integer,
    -- The end of all extensions, counted from settling.
    add column hold_seconds_max integer,
    add constraint inventory_held_not_negative check (held >= 0) not valid,
    add constraint inventory_hold_seconds_known check (hold_seconds > 0 and hold_seconds_max >= hold_seconds) not valid;

alter table inventory_ledger
    -- What orders took and what releases gave back; their difference is `delta`. None in entries of the release before,
    -- where all of a settlement was taken, and in administrative changes.
    add column taken    bigint,
    add column released bigint;

alter table orders
    -- 1, but for an order that was a dead letter before it was settled.
    add column revision      integer not null default 1,
    -- Of reserved orders: until when the goods were held at first, and until when they can be held at most.
    add column expires_at    timestamptz,
    add column extend_max_at timestamptz,
    drop constraint orders_status_known,
    add constraint orders_status_known check (status in ('confirmed', 'reserved', 'rejected', 'failed')) not valid;

-- What became of orders after they were settled. Append-only; the highest revision is what an order is now.
-- Parted as the orders are, so that a day's changes go with its orders.
create table order_changes (
    order_id          uuid not null,
    revision          integer not null,
    status            text not null,
    reason            text,
    -- What the change did to the stock: 'taken' (paid late) or 'released'.
    goods             text,
    expires_at        timestamptz,
    payment_reference text,
    -- Of cancelled orders: whether their goods went back.
    restocked         boolean,
    actor             text,
    role              text not null,
    request_id        text,
    at                timestamptz not null,
    constraint order_changes_pkey primary key (order_id, revision),
    constraint order_changes_status_known check (status in ('reserved', 'confirmed', 'expired', 'cancelled')),
    constraint order_changes_goods_known check (goods in ('taken', 'released'))
) partition by range (order_id);
-- The audit walks changes by time.
create index order_changes_by_time on order_changes using brin (at) with (pages_per_range = 32);

-- Changes that moved stock, of orders whose day is no longer kept: the ledger still has their entries, and the audit
-- needs the other side of them until it has not.
create table dropped_changes (
    order_id uuid not null,
    revision integer not null,
    goods    text not null,
    items    json not null,
    at       timestamptz not null,
    constraint dropped_changes_pkey primary key (order_id, revision)
);
create index dropped_changes_by_time on dropped_changes using brin (at);

-- One row for each reserved order: the only place to look for what is due.
create table holds (
    order_id      uuid not null,
    expires_at    timestamptz not null,
    constraint holds_pkey primary key (order_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
create index holds_by_expiry on holds (expires_at);

-- Payments that did not pay their order. A person, or the shop's program, gives the money back and resolves them.
create table unmatched_payments (
    id                bigint generated always as identity,
    -- Text, because a payment provider may name an order that never was.
    order_id          text not null,
    payment_reference text not null,
    amount_minor      bigint,
    currency          text,
    why               text not null,
    at                timestamptz not null default now(),
    resolved_at       timestamptz,
    resolved_by       text,
    note              text,
    constraint unmatched_payments_pkey primary key (id),
    -- The same payment is one row, however often it is delivered.
    constraint unmatched_payments_once unique (order_id, payment_reference)
);
create index unmatched_payments_open on unmatched_payments (id) where resolved_at is null;

-- An order as it stands now, by its first name.
create view orders_now as
select orders.order_id, orders.alias_of, orders.customer_id, orders.items, orders.total_minor, orders.currency,
       orders.accepted_at, orders.settled_at, orders.extend_max_at,
       orders.reason is not distinct from 'replayed' as is_replayed,
       coalesce(latest.revision, orders.revision) as revision,
       coalesce(latest.status, orders.status) as status,
       case when latest.revision is null then orders.reason else latest.reason end as reason,
       coalesce(latest.at, orders.settled_at) as updated_at,
       case when latest.revision is null then orders.expires_at else latest.expires_at end as expires_at,
       latest.payment_reference, latest.restocked
from orders
left join lateral (
    select * from order_changes
    where order_changes.order_id = orders.order_id
    order by order_changes.revision desc
    limit 1
) as latest on true;
