-- The ledger gets an end: one part per UTC day of `at`, as the orders have. The worker makes the coming
-- days; a day that is older than RETENTION_DAYS is replaced by one entry per SKU, of kind 'opening',
-- with the sum of what is gone.
--
-- What is there stays where it is and becomes the first part, which ends with tomorrow, or with the last entry
-- if a clock was ahead. It is read three times under an exclusive lock, which takes about a second for each million entries; orders wait
-- for so long. Processes of the release before go on as they are: tables and columns keep their names.

-- Keys of restocks, which a unique constraint cannot span the parts for. The release before knows only
-- the ledger's column, so that both are written and read until the next release.
create table restock_keys (
    sku             text collate "C" not null,
    idempotency_key text   not null,
    delta           bigint not null,
    at              timestamptz not null default now(),
    constraint restock_keys_pkey primary key (sku, idempotency_key)
);
create index restock_keys_by_time on restock_keys using brin (at);

do $$
declare
    today    date := (clock_timestamp() at time zone 'UTC')::date;
    first    date;
    last     date;
    earlier  text;
    starts   text;
    ends     text;
    allowed  record;
begin
    lock table inventory_ledger in access exclusive mode;
    -- Today's entries and tomorrow's, and what is dated later, have days that can no longer be parts of their own.
    select least((min(at) at time zone 'UTC')::date, today) - 1, greatest((max(at) at time zone 'UTC')::date, today + 1)
    into first, last
    from inventory_ledger;
    ends := quote_literal(to_char(last + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
    starts := quote_literal(to_char(first, 'YYYY-MM-DD') || ' 00:00:00+00');
    -- The name is where the worker reads the first and the last day from.
    earlier := 'inventory_ledger_' || to_char(first, 'YYYYMMDD') || '_' || to_char(last, 'YYYYMMDD');

    insert into restock_keys (sku, idempotency_key, delta, at)
    select sku, idempotency_key, delta, at from inventory_ledger where idempotency_key is not null;

    alter table inventory_ledger rename to ledger_until_now;
    alter index inventory_ledger_of_sku rename to ledger_until_now_of_sku;
    alter index inventory_ledger_by_time rename to ledger_until_now_by_time;
    drop index inventory_ledger_restock_once;
    alter table ledger_until_now rename constraint inventory_ledger_pkey to ledger_until_now_pkey;

    -- No identity column: before PostgreSQL 17 a table with parts cannot have one.
    create sequence inventory_ledger_id;
    perform setval('inventory_ledger_id', coalesce(max(id), 0) + 1, false) from ledger_until_now;
    alter table ledger_until_now alter column id drop identity;
    -- One scan for both: with the second, attaching needs none.
    execute 'alter table ledger_until_now
        drop constraint inventory_ledger_kind_known,
        add constraint inventory_ledger_kind_known check (kind in (''settlement'', ''put'', ''restock'', ''opening'')),
        add constraint ledger_until_now_bounds check (at >= ' || starts || ' and at < ' || ends || ')';

    create table inventory_ledger (
        -- Grows with each entry of a SKU. An opening has the id of the last entry that it stands for.
        id              bigint not null default nextval('inventory_ledger_id'),
        sku             text collate "C" not null,
        kind            text   not null,
        delta           bigint not null,
        balance         bigint not null,
        orders          integer not null default 0,
        idempotency_key text,
        at              timestamptz not null default now(),
        constraint inventory_ledger_kind_known check (kind in ('settlement', 'put', 'restock', 'opening'))
    ) partition by range (at);
    alter sequence inventory_ledger_id owned by inventory_ledger.id;
    create index inventory_ledger_of_sku on inventory_ledger (sku, id);
    create index inventory_ledger_by_time on inventory_ledger using brin (at) with (pages_per_range = 8);
    -- Only for the release before, and for keys that it writes while both run.
    create index inventory_ledger_restock on inventory_ledger (sku, idempotency_key) where idempotency_key is not null;

    execute format('alter table ledger_until_now rename to %I', earlier);
    execute format('alter table inventory_ledger attach partition %I for values from (%s) to (%s)', earlier, starts, ends);
    execute format('alter table %I drop constraint ledger_until_now_bounds', earlier);

    -- Whoever could use the ledger can go on.
    for allowed in
        select case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as role,
               privilege_type as privilege,
               case when is_grantable then 'with grant option' else '' end as again
        from pg_class, aclexplode(relacl)
        where pg_class.oid = to_regclass(earlier) and grantee <> relowner
    loop
        execute format('grant %s on inventory_ledger, restock_keys to %s %s', allowed.privilege, allowed.role, allowed.again);
        if allowed.privilege = 'INSERT' then
            execute format('grant usage on sequence inventory_ledger_id to %s %s', allowed.role, allowed.again);
        end if;
    end loop;
end $$;
