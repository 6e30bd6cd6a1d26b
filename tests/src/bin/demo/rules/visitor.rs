//! Who wants tickets in the third act: customers, who come back when they are told to, and bots, which do not listen.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::door::{Caller, Door, Said};
use crate::goods::TICKETS_EACH;

/// How the customers that bots make up are called.
pub(super) const MADE_UP: &str = "made-up-";

/// How often a bot tries.
const TRIES: usize = 16;
/// How long a bot waits between two tries, whatever it was told.
const BREATH: Duration = Duration::from_millis(50);

/// One who wants tickets.
pub(super) struct Visitor {
    pub(super) door: Arc<Door>,
    pub(super) number: usize,
    pub(super) kind: Kind,
    /// When it comes.
    pub(super) at: Instant,
}

/// What a visitor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Customer,
    /// A bot with one token, that comes from another address each time.
    ManyAddresses,
    /// A bot with one token and one address, that buys for another customer each time.
    ManyNames,
}

impl Visitor {
    /// Comes and goes. Everything heard on the way is in the tally.
    ///
    /// # Errors
    /// When an answer is none of those that the contract has for it.
    pub(super) async fn visit(self) -> anyhow::Result<()> {
        sleep_until(self.at).await;
        match self.kind {
            Kind::Customer => self.buy_as_a_customer().await,
            Kind::ManyAddresses => self.buy_from_many_addresses().await,
            Kind::ManyNames => self.buy_for_many_names().await,
        }
    }

    async fn buy_as_a_customer(&self) -> anyhow::Result<()> {
        let customer = self.door.caller(&format!("customer-{}", self.number));
        for quantity in wishes(self.number) {
            if let Some(id) = self.knock(&customer, *quantity).await? {
                self.door.await_outcome(&customer, id).await?;
            }
        }
        Ok(())
    }

    /// Knocks, and comes back whenever the door says so.
    async fn knock(&self, customer: &Caller, quantity: i64) -> anyhow::Result<Option<Uuid>> {
        loop {
            match self.door.buy(customer, None, quantity).await? {
                Said::Accepted(id) => return Ok(Some(id)),
                Said::Later(wait) => sleep(wait).await,
                Said::No => return Ok(None),
            }
        }
    }

    async fn buy_from_many_addresses(&self) -> anyhow::Result<()> {
        let bot = self.door.caller(&format!("bot-{}", self.number));
        let mut accepted = Vec::new();
        for _ in 0..TRIES {
            let here = self.door.elsewhere(&bot);
            if let Said::Accepted(id) = self.door.buy(&here, None, TICKETS_EACH).await? {
                accepted.push(id);
            }
            sleep(BREATH).await;
        }
        for id in accepted {
            self.door.await_outcome(&bot, id).await?;
        }
        Ok(())
    }

    async fn buy_for_many_names(&self) -> anyhow::Result<()> {
        let bot = self.door.caller(&format!("bot-{}", self.number));
        for attempt in 0..TRIES {
            let name = format!("{MADE_UP}{}-{attempt}", self.number);
            let said = self.door.buy(&bot, Some(&name), TICKETS_EACH).await?;
            if let Said::Accepted(id) = said {
                self.door.await_outcome(&bot, id).await?;
            }
            sleep(BREATH).await;
        }
        Ok(())
    }
}

/// What a customer buys, one purchase after the other. Some would like more than they may have: in one purchase, which
/// the door sees, or with what they have already, which only settling knows.
fn wishes(number: usize) -> &'static [i64] {
    match number % 5 {
        0 => &[1],
        1 => &[2],
        2 => &[1, 1],
        3 => &[3, 2],
        _ => &[2, 1],
    }
}
