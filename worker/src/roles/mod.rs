//! `hotrow-worker migrate --roles`: what the users of each process may do, at the database and at the broker.
//!
//! At the database there are two roles without a login. An operator grants them to the users of the processes, which
//! keeps passwords out of Hotrow. Nobody but the owner of the tables, who runs this, changes the schema.

mod broker;

use hotrow_shared::settings::Common;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use self::broker::permissions;

/// The role of ingest processes: they read, write the inventory, and write nothing of orders.
const INGEST: &str = "hotrow_ingest";
/// The role of workers: they settle.
const WORKER: &str = "hotrow_worker";

/// One process at a time grants.
const GRANT_LOCK: i64 = 0x686f_7472_6f77_0008;

/// What the roles may do with a table or view. What stands in no row is the owner's alone.
struct Right {
    table: &'static str,
    ingest: &'static str,
    worker: &'static str,
}

const fn right(table: &'static str, ingest: &'static str, worker: &'static str) -> Right {
    Right {
        table,
        ingest,
        worker,
    }
}

/// The rights, table by table. Days are reached through their tables, and need none of their own.
#[rustfmt::skip]
const RIGHTS: &[Right] = &[
    //    table                 ingest                    worker
    right("inventory",          "select, insert, update", "select, update"),
    right("inventory_ledger",   "select, insert",         "select, insert"),
    right("restock_keys",       "select, insert",         ""),
    right("inventory_changes",  "select, insert",         "select, insert"),
    right("orders",             "select",                 "select, insert, update, delete"),
    right("order_changes",      "select",                 "select, insert"),
    right("orders_now",         "select",                 "select"),
    right("holds",              "",                       "select, insert, update, delete"),
    right("dropped_changes",    "",                       "select"),
    right("unmatched_payments", "select, insert, update", "select, insert"),
    right("customer_goods",     "",                       "select, insert, update"),
    right("sale_switch",        "select, update",         "select"),
    right("audit_log",          "select, insert",         "insert"),
    right("event_outbox",       "insert",                 "select, insert, update, delete"),
    right("event_stream",       "select, update",         "select, update"),
    right("webhooks",           "select, insert, update", "select, update, delete"),
    right("webhook_deliveries", "select, insert, update", "select, insert, update, delete"),
    right("webhook_position",   "",                       "select, update"),
    right("_sqlx_migrations",   "select",                 "select"),
];

/// Sequences that are read by the default of a column. Those of identity columns need no right.
const SEQUENCES: &[&str] = &["inventory_ledger_id"];

/// The roles cannot be made, or not get their rights.
#[derive(Debug, thiserror::Error)]
pub enum RolesError {
    /// Making roles is a right of its own.
    #[error(
        "the user {user:?} may not make roles: let a superuser run `create role {INGEST}; create role {WORKER};` once, \
         then run this again"
    )]
    NoRoles {
        /// Who tried.
        user: String,
    },
    /// The tables belong to somebody else.
    #[error(
        "the user {user:?} does not own the tables: run this as their owner (OWNER_DATABASE_URL)"
    )]
    NotOwner {
        /// Who tried.
        user: String,
        /// What the database said.
        source: sqlx::Error,
    },
    /// The database refuses for another reason, or is out of reach.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Makes the roles where they are missing, and gives them the rights of this release and no other to what the owner of
/// the tables has in their schema. The same again changes nothing. Returns a warning if others may still change the schema.
///
/// # Errors
/// See [`RolesError`].
pub async fn grant(connection: &mut PgConnection) -> Result<Option<String>, RolesError> {
    let (user, schema): (String, String) =
        sqlx::query_as("select current_user::text, quote_ident(current_schema()::text)")
            .fetch_one(&mut *connection)
            .await?;
    for role in [INGEST, WORKER] {
        make(connection, role).await.map_err(|error| {
            let user = user.clone();
            if is_denied(&error) {
                RolesError::NoRoles { user }
            } else {
                error.into()
            }
        })?;
    }
    grant_all(connection, &schema).await.map_err(|source| {
        if is_denied(&source) {
            RolesError::NotOwner { user, source }
        } else {
            source.into()
        }
    })?;
    let may_create: Vec<String> = sqlx::query_scalar(
        "select name from unnest($1::name[]) as name where has_schema_privilege(name, current_schema(), 'create')",
    )
    .bind(["public", INGEST, WORKER])
    .fetch_all(&mut *connection)
    .await?;
    Ok((!may_create.is_empty()).then(|| {
        let names = may_create.join(", ");
        format!(
            "others than its owner may still create tables in the schema {schema}, as everybody may up to \
             PostgreSQL 14: let its owner run `revoke create on schema {schema} from {names}`"
        )
    }))
}

/// Makes a role that nobody can log in as. Roles belong to the whole server, so another database may have made it, or
/// makes it at this moment.
async fn make(connection: &mut PgConnection, role: &str) -> Result<(), sqlx::Error> {
    let statement = format!(
        "
        do $$ begin
            if not exists (select from pg_roles where rolname = '{role}') then
                create role {role} nologin;
            end if;
        exception when duplicate_object or unique_violation then null;
        end $$
        "
    );
    execute(connection, statement).await
}

/// Everything in the schema that belongs to this user and that the roles have a right to, as a
/// `revoke` names it. Tables of earlier releases are among them. A right to a column goes with its table.
async fn granted(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "
        select case relkind when 'S' then 'sequence ' else 'table ' end || oid::regclass::text
        from pg_class
        where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f', 'S')
          and pg_has_role(current_user, relowner, 'usage')
          and exists (
              select from aclexplode(relacl) as given where given.grantee = any($1::regrole[])
              union all
              select from pg_attribute, aclexplode(attacl) as given
              where attrelid = pg_class.oid and given.grantee = any($1::regrole[])
          )
        ",
    )
    .bind([INGEST, WORKER])
    .fetch_all(connection)
    .await
}

/// In one transaction, so that no process of an earlier run is without its rights in between.
async fn grant_all(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(GRANT_LOCK)
        .execute(&mut *transaction)
        .await?;
    execute(
        &mut transaction,
        format!("grant usage on schema {schema} to {INGEST}, {WORKER}"),
    )
    .await?;
    for granted in granted(&mut transaction).await? {
        let revoke = format!("revoke all on {granted} from {INGEST}, {WORKER}");
        execute(&mut transaction, revoke).await?;
    }
    for right in RIGHTS {
        let table = right.table;
        for (role, rights) in [(INGEST, right.ingest), (WORKER, right.worker)] {
            if !rights.is_empty() {
                let grant = format!("grant {rights} on {table} to {role}");
                execute(&mut transaction, grant).await?;
            }
        }
    }
    for sequence in SEQUENCES {
        let grant = format!("grant usage on sequence {sequence} to {INGEST}, {WORKER}");
        execute(&mut transaction, grant).await?;
    }
    // Without the right to do so, this warns and changes nothing.
    let revoke = format!("revoke create on schema {schema} from public, {INGEST}, {WORKER}");
    execute(&mut transaction, revoke).await?;
    transaction.commit().await
}

async fn execute(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    let statement = sqlx::raw_sql(AssertSqlSafe(statement));
    statement.execute(connection).await.map(drop)
}

fn is_denied(error: &sqlx::Error) -> bool {
    let error = error.as_database_error();
    error.is_some_and(|error| error.code().as_deref() == Some("42501"))
}

/// What a person does with the roles.
#[must_use]
pub fn advice(common: &Common) -> String {
    let lines = permissions(&common.amqp.nodes()[0].uri.vhost);
    format!(
        "The roles {INGEST} and {WORKER} have their rights. Give them to the users of the processes, for example:\n\
         \n\
         create role shop_ingest login password '...' in role {INGEST};\n\
         create role shop_worker login password '...' in role {WORKER};\n\
         \n\
         Workers also need the owner of the tables, as OWNER_DATABASE_URL, to make and drop days.\n\
         \n\
         What the users may do at RabbitMQ; write your own names for them:\n\
         \n\
         {}",
        lines.join("\n")
    )
}
