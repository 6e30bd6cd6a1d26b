//! A place's users: an owner of the schema, one for ingest, one for workers, and one who reads events, each with no
//! more than `hotrow-worker migrate --roles` gives it.

use anyhow::{Context, ensure};
use url::Url;
use uuid::Uuid;

use crate::{Place, Settings, place::on_database};

/// The users of a place, of which each has its own URLs.
#[derive(Debug, Clone)]
pub struct Users {
    /// Who owns the tables, and may make roles.
    pub owner_database_url: String,
    /// How ingest processes come to the database.
    pub ingest_database_url: String,
    /// How ingest processes come to the broker.
    pub ingest_amqp_url: String,
    /// How workers come to the database.
    pub worker_database_url: String,
    /// How workers come to the broker.
    pub worker_amqp_url: String,
    /// How a program that reads events comes to the broker.
    pub reader_amqp_url: String,
}

impl Users {
    /// Makes the users of a place whose database is empty, and its schema.
    ///
    /// # Errors
    /// When a server does not let us make users, or `hotrow-worker migrate --roles` fails; with its output.
    pub async fn make(place: &Place) -> anyhow::Result<Self> {
        let password = Uuid::new_v4().simple().to_string();
        let name = place.name();
        let (postgres, rabbitmq) = (&place.servers().postgres, &place.servers().rabbitmq);
        for statement in [
            format!("create role {name}_owner login createrole password '{password}'"),
            format!("alter database {name} owner to {name}_owner"),
        ] {
            on_database(postgres, statement).await?;
        }
        let of = |url: &str, role: &str| of_user(url, &format!("{name}_{role}"), &password);
        let owner_database_url = of(&place.database_url, "owner")?;
        let lines = migrate(place, &owner_database_url).await?;
        for role in ["ingest", "worker"] {
            let create = format!(
                "create role {name}_{role} login password '{password}' in role hotrow_{role}"
            );
            on_database(postgres, create).await?;
        }
        for role in ["ingest", "worker", "reader"] {
            let user = format!("{name}_{role}");
            rabbitmq.create_user(&user, &password).await?;
            let patterns = patterns(&lines, &format!("hotrow_{role}"))?;
            let patterns = patterns.each_ref().map(String::as_str);
            rabbitmq.permit(name, &user, patterns).await?;
        }
        Ok(Self {
            owner_database_url,
            ingest_database_url: of(&place.database_url, "ingest")?,
            ingest_amqp_url: of(&place.amqp_url, "ingest")?,
            worker_database_url: of(&place.database_url, "worker")?,
            worker_amqp_url: of(&place.amqp_url, "worker")?,
            reader_amqp_url: of(&place.amqp_url, "reader")?,
        })
    }

    /// One user for everything, on servers that do not let us make others.
    #[must_use]
    pub fn one(place: &Place) -> Self {
        let (database, amqp) = (|| place.database_url.clone(), || place.amqp_url.clone());
        Self {
            owner_database_url: database(),
            ingest_database_url: database(),
            ingest_amqp_url: amqp(),
            worker_database_url: database(),
            worker_amqp_url: amqp(),
            reader_amqp_url: amqp(),
        }
    }

    /// The settings of an ingest process, with its users.
    #[must_use]
    pub fn ingest(&self, settings: Settings) -> Settings {
        settings
            .set("DATABASE_URL", &self.ingest_database_url)
            .set("AMQP_URL", &self.ingest_amqp_url)
    }

    /// The settings of a worker, with its users.
    #[must_use]
    pub fn worker(&self, settings: Settings) -> Settings {
        settings
            .set("DATABASE_URL", &self.worker_database_url)
            .set("OWNER_DATABASE_URL", &self.owner_database_url)
            .set("AMQP_URL", &self.worker_amqp_url)
    }
}

/// The same URL for another user.
fn of_user(url: &str, user: &str, password: &str) -> anyhow::Result<String> {
    let mut url = Url::parse(url)?;
    url.set_username(user)
        .and_then(|()| url.set_password(Some(password)))
        .map_err(|()| anyhow::anyhow!("a URL without a host has no user"))?;
    Ok(url.into())
}

/// What `migrate --roles` prints, which is what an operator reads.
async fn migrate(place: &Place, owner_database_url: &str) -> anyhow::Result<String> {
    let migrate = Settings::worker(place).set("OWNER_DATABASE_URL", owner_database_url);
    let output = migrate.run(&["migrate", "--roles"]).await?;
    ensure!(
        output.status.success(),
        "migrate --roles failed\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// The three patterns of the line for a user.
///
/// # Errors
/// When there is no such line.
pub fn patterns(lines: &str, user: &str) -> anyhow::Result<[String; 3]> {
    let line = lines.lines().find(|line| {
        line.starts_with("rabbitmqctl set_permissions") && line.contains(&format!(" {user} "))
    });
    let line = line.with_context(|| format!("no permissions of {user} in\n{lines}"))?;
    let quoted: Vec<_> = line.split('\'').skip(1).step_by(2).collect();
    let patterns = <[&str; 3]>::try_from(quoted).map_err(|_| anyhow::anyhow!("{line}"))?;
    Ok(patterns.map(str::to_owned))
}
