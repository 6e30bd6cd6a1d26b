-- The rules of a sale: who may buy, when, and how much; a switch for everything; and a record of what people changed.
--
-- Nothing is rewritten and no table is scanned. Workers come before ingest in an upgrade: those of the release before
-- would settle orders without the new rules, and do not know an item that names its price.

alter table inventory
    -- Pieces that one order may have.
    add column max_per_order    integer,
    -- Pieces that one customer may hold and have bought, counted since `limited_since`.
    add column max_per_customer integer,
    -- When the SKU got its limit per customer: orders that took goods before do not count.
    add column limited_since    timestamptz,
    add column opens_at         timestamptz,
    add column closes_at        timestamptz,
    -- Refused at the door alone: what was accepted is settled.
    add column paused           boolean not null default false,
    -- Counts the changes by administrators, and not settlements, as `version` does.
    add column edition          bigint not null default 1,
    add constraint inventory_limited_since_known check ((max_per_customer is null) = (limited_since is null)) not valid;

-- How many of a SKU each customer holds or has bought. Only of SKUs that have a limit per customer, and written only
-- behind the lock of the SKU's row.
create table customer_goods (
    sku         text collate "C" not null,
    customer_id text collate "C" not null,
    -- The `limited_since` that it counts from. A row of an earlier limit counts nothing.
    since       timestamptz not null,
    quantity    bigint not null,
    constraint customer_goods_pkey primary key (sku, customer_id)
) with (fillfactor = 70);

-- The switch for all purchases: one row.
create table sale_switch (
    is_only boolean not null default true,
    paused  boolean not null default false,
    -- Whether holds run meanwhile, or are kept.
    holds   text not null default 'run',
    -- When it resumes by itself.
    until   timestamptz,
    note    text,
    -- Counts its changes.
    version bigint not null default 0,
    at      timestamptz not null default now(),
    constraint sale_switch_pkey primary key (is_only),
    constraint sale_switch_is_one check (is_only),
    constraint sale_switch_holds_known check (holds in ('run', 'keep'))
);
insert into sale_switch default values;

-- Every change by a person or a shop's program, in the transaction of the change.
create table audit_log (
    id         bigint generated always as identity,
    at         timestamptz not null default clock_timestamp(),
    -- Who: the subject of a token, 'admin-token', or the operator's account.
    actor      text,
    role       text not null,
    -- What: such as 'inventory.put'.
    action     text not null,
    -- Of what: such as a SKU.
    subject    text not null,
    before     json,
    after      json,
    request_id text,
    -- The address that it came from.
    client     text,
    constraint audit_log_pkey primary key (id)
);
create index audit_log_by_subject on audit_log (subject, id);
-- Every process asks twice a second for what was changed within the last seconds.
create index audit_log_by_time on audit_log (at);

alter table inventory_ledger
    -- Who changed the stock; none of settlements.
    add column actor text;

-- Whether the last change took the goods again tells since when an order has them.
create or replace view orders_now as
select orders.order_id, orders.alias_of, orders.customer_id, orders.items, orders.total_minor, orders.currency,
       orders.accepted_at, orders.settled_at, orders.extend_max_at,
       orders.reason is not distinct from 'replayed' as is_replayed,
       coalesce(latest.revision, orders.revision) as revision,
       coalesce(latest.status, orders.status) as status,
       case when latest.revision is null then orders.reason else latest.reason end as reason,
       coalesce(latest.at, orders.settled_at) as updated_at,
       case when latest.revision is null then orders.expires_at else latest.expires_at end as expires_at,
       latest.payment_reference, latest.restocked, latest.goods
from orders
left join lateral (
    select * from order_changes
    where order_changes.order_id = orders.order_id
    order by order_changes.revision desc
    limit 1
) as latest on true;
