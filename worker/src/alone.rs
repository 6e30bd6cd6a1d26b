//! Work that one worker at a time does: whoever has the advisory lock, in a session of its own.

use hotrow_shared::database;
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};

/// The right to do some work alone.
pub(crate) struct Alone {
    connect: PgConnectOptions,
    lock: i64,
    session: Option<PgConnection>,
    /// Whether the session holds the lock.
    is_mine: bool,
}

impl Alone {
    /// The right that goes with this advisory lock. `name` is what the database shows of the session.
    pub(crate) fn under(lock: i64, connect: &PgConnectOptions, name: &str) -> Self {
        Self {
            connect: database::options(connect, name),
            lock,
            session: None,
            is_mine: false,
        }
    }

    /// The session that holds the lock, or none while another worker has it.
    pub(crate) async fn session(&mut self) -> Result<Option<&mut PgConnection>, sqlx::Error> {
        if self.session.is_none() {
            self.session = Some(self.connect.connect().await?);
        }
        let Some(session) = &mut self.session else {
            return Ok(None);
        };
        if !self.is_mine {
            let locked =
                sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "locked!""#, self.lock);
            self.is_mine = locked.fetch_one(&mut *session).await?;
        }
        Ok(self.is_mine.then_some(session))
    }

    /// Gives the session up, and the right with it: another worker may be better off.
    pub(crate) fn give_up(&mut self) {
        self.session = None;
        self.is_mine = false;
    }
}
