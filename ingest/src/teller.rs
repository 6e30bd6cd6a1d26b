//! Tells other ingest processes what an administrator changed. One that misses it reads the database soon.

use std::{sync::Arc, time::Duration};

use hotrow_shared::{
    broker::{Broker, BrokerError},
    news::News,
    publish,
    topology::SETTLED_EXCHANGE,
};
use tokio::time::timeout;

/// How long telling the others of a change may hold up the answer to an administrator.
const TELL_MAX: Duration = Duration::from_secs(1);

/// Publishes news.
#[derive(Clone)]
pub(crate) struct Teller(Arc<Broker>);

impl Teller {
    /// Publishes over this connection.
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        Self(broker)
    }

    /// Tells every process, if the broker takes it in time.
    pub(crate) async fn tell(&self, news: &News<()>) {
        let told = timeout(TELL_MAX, self.publish(news)).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::debug!("the news of a change is lost: others read the database");
        }
    }

    async fn publish(&self, news: &News<()>) -> Result<(), BrokerError> {
        let body = serde_json::to_vec(news).unwrap_or_default();
        let channel = self.0.channel().await?;
        publish::unconfirmed(&channel, SETTLED_EXCHANGE, &body).await?;
        channel.close(200, "told".into()).await?;
        Ok(())
    }
}
