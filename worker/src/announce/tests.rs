//! News without a broker: what a batch is turned into.

use hotrow_shared::{
    envelope::Order,
    id::IdMint,
    news,
    order::{CustomerId, Items},
    outcome::Reason,
};

use super::*;
use crate::document::Outcome;

const MINUTE_MS: i64 = 60_000;

fn change(number: u64, verdict: Verdict) -> Change {
    let mint = IdMint::new("a secret of a test", None);
    Change {
        order: Order {
            id: mint.mint(number),
            customer_id: CustomerId::try_from("c").expect("a valid name"),
            items: serde_json::from_str::<Items>(r#"[{"sku":"chair","quantity":2}]"#)
                .expect("valid items"),
            accepted_ms: MINUTE_MS,
            key: None,
            request_id: None,
        },
        verdict,
    }
}

fn ended(changes: Vec<Change>) -> Ended {
    let chair = Stock {
        available: 3,
        unit_price_minor: 500,
        currency: "EUR".to_owned(),
        version: 7,
    };
    let settlement = Settlement {
        changes,
        stock: BTreeMap::from([(Sku::try_from("chair").expect("a valid name"), chair)]),
        at: DateTime::from_timestamp_millis(MINUTE_MS + 250).expect("a time"),
    };
    Ended {
        partition: 4,
        settlements: vec![settlement],
        failed: Vec::new(),
    }
}

#[test]
fn news_shows_outcomes_and_stock_and_only_names_what_was_settled_before() {
    let confirmed = Outcome::confirmed(1_000);
    let rejected = Outcome::rejected(Reason::SoldOut);
    let changes = vec![
        change(1, Verdict::Settled(confirmed)),
        change(2, Verdict::Duplicate),
        change(3, Verdict::Settled(rejected)),
        change(4, Verdict::Alias(change(1, Verdict::Duplicate).order.id)),
    ];
    let ids: Vec<_> = changes.iter().map(|change| change.order.id).collect();
    let [message] = &messages(&ended(changes)).collect::<Vec<_>>()[..] else {
        panic!("four orders are one message");
    };
    let news = news::read(message).expect("it can be read");
    let queue = news.queue.expect("it tells of a queue");
    assert_eq!(
        (queue.partition, queue.taken_orders, queue.age_ms),
        (4, 4, 250)
    );
    assert_eq!((news.stock[0].version, news.stock[0].available), (7, 3));
    assert_eq!(news.found, [ids[1], ids[3]]);
    let documents: Vec<serde_json::Value> = news
        .settled
        .iter()
        .map(|settled| serde_json::from_str(settled.document.get()).expect("JSON"))
        .collect();
    assert_eq!(documents[0]["order_id"], ids[0].to_string());
    assert_eq!(documents[0]["status"], "confirmed");
    assert_eq!(documents[0]["total_minor"], 1_000);
    assert_eq!(documents[0]["currency"], "EUR");
    assert_eq!(documents[0]["items"][0]["unit_price_minor"], 500);
    assert_eq!(documents[1]["reason"], "sold_out");
    assert_eq!(documents[1]["currency"], serde_json::Value::Null);
}

#[test]
fn the_news_of_a_large_batch_is_several_messages_and_the_stock_is_in_the_first() {
    let changes = (0..2_500)
        .map(|number| change(number, Verdict::Duplicate))
        .collect();
    let messages: Vec<_> = messages(&ended(changes)).collect();
    let news: Vec<_> = messages
        .iter()
        .map(|message| news::read(message).expect("it can be read"))
        .collect();
    let orders: Vec<_> = news.iter().map(|news| news.found.len()).collect();
    assert_eq!(orders, [1_000, 1_000, 500]);
    let stock: Vec<_> = news.iter().map(|news| news.stock.len()).collect();
    assert_eq!(stock, [1, 0, 0]);
}

#[test]
fn an_order_that_failed_is_named_without_a_document() {
    let failed = change(9, Verdict::Duplicate).order.id;
    let ended = Ended {
        partition: 0,
        settlements: Vec::new(),
        failed: vec![failed],
    };
    let messages: Vec<_> = messages(&ended).collect();
    let news = news::read(&messages[0]).expect("it can be read");
    assert_eq!((messages.len(), news.found), (1, vec![failed]));
    assert!(news.queue.is_none() && news.settled.is_empty());
}
