-- The stock, one row per SKU: the hot rows.
create table inventory (
    -- Compared byte by byte, so that every process locks rows in the same order.
    sku              text collate "C" not null,
    title            text   not null,
    unit_price_minor bigint not null,
    currency         text   not null,
    available        bigint not null,
    -- Counts the writes of the row: of two news about a SKU the higher version is the later.
    version          bigint not null default 1,
    updated_at       timestamptz not null default now(),
    constraint inventory_pkey primary key (sku),
    constraint inventory_available_not_negative check (available >= 0)
)
-- A settlement writes no indexed column, so with room on its page the new version of a row stays
-- there (a HOT update): no index is touched, and the next reader prunes the old version.
with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- What happened to the stock: one row per SKU and batch, one per administrative change. Append-only.
create table inventory_ledger (
    id              bigint generated always as identity,
    sku             text collate "C" not null,
    kind            text   not null,
    delta           bigint not null,
    -- The stock after this entry. Entries of one SKU are written under its row lock, so their ids
    -- and balances follow each other.
    balance         bigint not null,
    -- How many confirmed orders a settlement put together; 0 for an administrative change.
    orders          integer not null default 0,
    -- The client's own name for a restock.
    idempotency_key text,
    at              timestamptz not null default now(),
    constraint inventory_ledger_pkey primary key (id),
    constraint inventory_ledger_kind_known check (kind in ('settlement', 'put', 'restock'))
);
create index inventory_ledger_of_sku on inventory_ledger (sku, id);
create unique index inventory_ledger_restock_once on inventory_ledger (sku, idempotency_key) where idempotency_key is not null;
-- The audit walks settlements by time, and this index costs a settlement next to nothing.
create index inventory_ledger_by_time on inventory_ledger using brin (at) with (pages_per_range = 8);
