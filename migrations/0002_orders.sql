-- Every settled order, one row each, partitioned by the UTC day in the first 48 bits of its id:
-- looking for a duplicate touches one small index, and a day that is no longer kept is dropped whole.
-- The worker makes the partitions of the coming days and drops the old ones.
create table orders (
    order_id    uuid not null,
    status      text not null,
    reason      text,
    customer_id text not null,
    -- [{"sku", "quantity", "unit_price_minor"}], in the customer's own sequence. Kept as text: it is
    -- shown as it was written, and a settlement does not pay for taking it apart.
    items       json not null,
    total_minor bigint,
    currency    text,
    accepted_at timestamptz not null,
    settled_at  timestamptz not null default now(),
    -- Set where the same idempotency key came in again after midnight: this id is another name of
    -- the order that came first. Such a row has no effect on the stock.
    alias_of    uuid,
    constraint orders_pkey primary key (order_id),
    constraint orders_status_known check (status in ('confirmed', 'rejected', 'failed'))
) partition by range (order_id);

-- The audit walks orders by the time of their batch. They are appended in that order, which makes
-- the smallest kind of index the right one.
create index orders_by_settled_at on orders using brin (settled_at) with (pages_per_range = 32);
