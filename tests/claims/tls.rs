//! Claims about TLS to the servers: who is trusted, and what is said of those who are not.

use std::{fs, process::Output};

use anyhow::ensure;
use hotrow_tests::{
    Place, Settings,
    client::Product,
    processes,
    servers::{Identity, Postgres, RabbitMq, Servers},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use url::Url;

/// Two servers that speak TLS as `localhost`, with the certificates of their CA and of another.
struct Secured {
    servers: Servers,
    ca: String,
    other_ca: String,
}

/// The same certificates as files, as long as this is there.
struct Files {
    ca: String,
    other_ca: String,
    _folder: TempDir,
}

/// Shared by the claims of this file. Never dropped: the guardians notice the end of the process.
async fn secured() -> anyhow::Result<&'static Secured> {
    static SECURED: OnceCell<Secured> = OnceCell::const_new();
    SECURED.get_or_try_init(Secured::start).await
}

impl Secured {
    async fn start() -> anyhow::Result<Self> {
        let (ca, other) = (Authority::new("a CA")?, Authority::new("another CA")?);
        let identity = ca.identity("localhost")?;
        let (postgres, rabbitmq) = tokio::try_join!(
            Postgres::start_with_tls(&identity),
            RabbitMq::start_with_tls(&identity)
        )?;
        Ok(Self {
            servers: Servers { postgres, rabbitmq },
            ca: ca.pem,
            other_ca: other.pem,
        })
    }

    fn files(&self) -> anyhow::Result<Files> {
        let folder = tempfile::tempdir()?;
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text)?;
            anyhow::Ok(path.display().to_string())
        };
        Ok(Files {
            ca: file("ca.pem", &self.ca)?,
            other_ca: file("other-ca.pem", &self.other_ca)?,
            _folder: folder,
        })
    }

    /// The URLs of a place by TLS, with these parameters.
    fn urls(&self, place: &Place, database: &str, amqp: &str) -> anyhow::Result<[Url; 2]> {
        let mut database_url = Url::parse(&place.database_url)?;
        database_url.set_host(Some("localhost"))?;
        database_url.set_query(Some(database));
        let mut amqp_url = self.servers.rabbitmq.tls_url_of(place.name())?;
        amqp_url.set_query(Some(amqp));
        Ok([database_url, amqp_url])
    }
}

/// Signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, pem })
    }

    fn identity(&self, host: &str) -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new([host.to_owned()])?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn ingest(place: &Place) -> Settings {
    Settings::ingest(place).set("PARTITIONS", "1")
}

fn worker(place: &Place) -> Settings {
    Settings::worker(place).set("PARTITIONS", "1")
}

/// Sells a chair with both servers at these addresses.
async fn sells(place: &Place, urls: &[Url; 2], roots: Option<&str>) -> anyhow::Result<()> {
    let at = |settings: Settings| {
        let [database, amqp] = urls;
        let settings = settings
            .set("DATABASE_URL", database.as_str())
            .set("AMQP_URL", amqp.as_str());
        match roots {
            Some(file) => settings.set("SSL_CERT_FILE", file),
            None => settings,
        }
    };
    let (worker, ingest) = (at(worker(place)), at(ingest(place)));
    let (_worker, ingest) = tokio::try_join!(worker.start(), ingest.start())?;
    let client = ingest.client()?;
    let put = client.put_inventory("chair", Product::chairs(10)).await?;
    put.expect_success()?;
    let accepted = client.order("c", &[("chair", 1)]).await?.expect(202)?;
    let document = client.settled(accepted.order_id()?, 20).await?.json()?;
    ensure!(document["status"] == "confirmed", "{document}");
    // By TLS, as the servers see it.
    let mut database = place.database().await?;
    let unprotected: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity join pg_stat_ssl using (pid)
         where datname = current_database() and application_name like 'hotrow-%' and not ssl",
    )
    .fetch_one(&mut database)
    .await?;
    ensure!(unprotected == 0, "{unprotected} connections without TLS");
    Ok(())
}

#[tokio::test]
async fn orders_are_sold_over_tls_with_a_ca_of_ones_own_and_with_those_of_the_system()
-> anyhow::Result<()> {
    let secured = secured().await?;
    let files = secured.files()?;
    let ca = files.ca.as_str();
    let place = Place::on(secured.servers.clone()).await?;
    processes::migrate(&place).await?;
    let own = secured.urls(
        &place,
        &format!("sslmode=verify-full&sslrootcert={ca}"),
        &format!("cacertfile={ca}"),
    )?;
    sells(&place, &own, None).await?;
    let system = secured.urls(&place, "sslmode=verify-full", "heartbeat=5")?;
    sells(&place, &system, Some(ca)).await
}

#[tokio::test]
async fn a_server_with_another_ca_or_another_name_is_refused_and_the_message_says_what_to_do()
-> anyhow::Result<()> {
    let secured = secured().await?;
    let files = secured.files()?;
    let (ca, other) = (files.ca.as_str(), files.other_ca.as_str());
    let place = Place::on(secured.servers.clone()).await?;
    processes::migrate(&place).await?;
    let verified = |ca: &str| format!("sslmode=verify-full&sslrootcert={ca}");
    let trusted = |ca: &str| format!("cacertfile={ca}");

    for ca in [None, Some(other)] {
        let parameters = ca.map_or_else(|| "sslmode=verify-full".to_owned(), verified);
        let [database, _] = secured.urls(&place, &parameters, "")?;
        let refused = worker(&place).set("DATABASE_URL", database.as_str());
        says(
            &refused,
            &[
                "DATABASE_URL: localhost:",
                "signed by nobody who is trusted",
                "sslrootcert",
            ],
        )
        .await?;
        let parameters = ca.map_or_else(String::new, trusted);
        let [_, amqp] = secured.urls(&place, "", &parameters)?;
        let refused = ingest(&place).set("AMQP_URL", amqp.as_str());
        says(
            &refused,
            &["AMQP_URL", "signed by nobody who is trusted", "cacertfile"],
        )
        .await?;
    }

    let [mut database, mut amqp] = secured.urls(&place, &verified(ca), &trusted(ca))?;
    for url in [&mut database, &mut amqp] {
        url.set_host(Some("127.0.0.1"))?;
    }
    let refused = worker(&place).set("DATABASE_URL", database.as_str());
    says(
        &refused,
        &["DATABASE_URL", "not for 127.0.0.1", "localhost"],
    )
    .await?;
    let refused = ingest(&place).set("AMQP_URL", amqp.as_str());
    says(&refused, &["AMQP_URL", "not for 127.0.0.1", "localhost"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_the_url_asks_for_it() -> anyhow::Result<()> {
    let place = Place::new().await?;
    processes::migrate(&place).await?;
    let mut database = Url::parse(&place.database_url)?;
    database.set_query(Some("sslmode=verify-full"));
    let refused = worker(&place).set("DATABASE_URL", database.as_str());
    says(&refused, &["DATABASE_URL", "does not offer TLS"]).await
}

#[tokio::test]
async fn servers_on_other_machines_in_plain_text_are_one_warning() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let far = |settings: Settings, database: &str, amqp: &str| {
        settings.set("DATABASE_URL", database).set("AMQP_URL", amqp)
    };
    let (database, amqp) = (
        "postgres://u:p@db.invalid/shop",
        "amqp://u:p@mq.invalid/shop",
    );
    let warned = |output: &Output| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let warnings = said.lines().filter(|line| line.contains("without TLS"));
        warnings.map(str::to_owned).collect::<Vec<_>>()
    };
    for settings in [ingest(&place), worker(&place)] {
        let output = far(settings, database, amqp).run(&[]).await?;
        let warnings = warned(&output);
        ensure!(warnings.len() == 1, "{warnings:?}");
        for name in ["DATABASE_URL", "AMQP_URL, mq.invalid:5672"] {
            ensure!(warnings[0].contains(name), "{warnings:?}");
        }
        ensure!(!warnings[0].contains("u:p"), "{warnings:?}");
    }
    let secured = format!("{database}?sslmode=verify-full");
    let output = far(worker(&place), &secured, "amqps://u:p@mq.invalid/shop")
        .run(&[])
        .await?;
    ensure!(warned(&output).is_empty());
    let owner = far(worker(&place), &secured, "amqps://u:p@mq.invalid/shop")
        .set("OWNER_DATABASE_URL", database);
    let warnings = warned(&owner.run(&[]).await?);
    ensure!(warnings.len() == 1 && warnings[0].contains("OWNER_DATABASE_URL"));
    let (database, amqp) = (
        "postgres://u:p@127.0.0.1:1/shop",
        "amqp://u:p@localhost:1/shop",
    );
    let near = far(worker(&place), database, amqp).run(&[]).await?;
    ensure!(warned(&near).is_empty());
    Ok(())
}

/// Starts a process, which must end and say all of this.
async fn says(settings: &Settings, texts: &[&str]) -> anyhow::Result<()> {
    let output = settings.run(&[]).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "{said}");
    for text in texts {
        ensure!(said.contains(text), "{text:?} is not in\n{said}");
    }
    Ok(())
}
