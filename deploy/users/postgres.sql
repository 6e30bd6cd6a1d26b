-- Makes the users of ingest and workers with the roles that `hotrow-worker migrate --roles` has made, or gives them
-- the passwords of today. Run by psql as the owner, with INGEST_PASSWORD and WORKER_PASSWORD in its environment.

-- That somebody has a role already is no news.
set client_min_messages = warning;

\getenv ingest_password INGEST_PASSWORD
\getenv worker_password WORKER_PASSWORD

select format('create role %I login', name)
from unnest(array['shop_ingest', 'shop_worker']) as name
where not exists (select from pg_roles where rolname = name)
\gexec

alter role shop_ingest password :'ingest_password';
alter role shop_worker password :'worker_password';
grant hotrow_ingest to shop_ingest;
grant hotrow_worker to shop_worker;
