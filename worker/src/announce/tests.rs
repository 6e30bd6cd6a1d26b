//! News without a broker: what a batch is turned into.

use hotrow_shared::{
    envelope::Order,
    id::IdMint,
    news,
    order::{CustomerId, Items},
    outcome::Reason,
};

use super::*;
use crate::{document::Outcome, stock::Rules};

const MINUTE_MS: i64 = 60_000;

fn place(number: u64, verdict: Verdict) -> Decided {
    let mint = IdMint::new("a secret of a test", None);
    Decided {
        command: Command::Place(Order {
            id: mint.mint(number),
            customer_id: CustomerId::try_from("c").expect("a valid name"),
            items: serde_json::from_str::<Items>(r#"[{"sku":"chair","quantity":2}]"#)
                .expect("valid items"),
            accepted_ms: MINUTE_MS,
            key: None,
            request_id: None,
        }),
        verdict,
    }
}

fn ended(decided: Vec<Decided>) -> Ended {
    let chair = Stock {
        available: 3,
        held: 0,
        hold: None,
        rules: Rules::default(),
        unit_price_minor: 500,
        currency: "EUR".to_owned(),
        version: 7,
    };
    let settlement = Settlement {
        decided,
        stock: BTreeMap::from([(Sku::try_from("chair").expect("a valid name"), chair)]),
        at: DateTime::from_timestamp_millis(MINUTE_MS + 250).expect("a time"),
        told: None,
    };
    Ended {
        partition: 4,
        size_bytes: 1_000,
        settlements: vec![settlement],
        failed: Vec::new(),
    }
}

#[test]
fn news_shows_outcomes_and_stock_and_only_names_what_was_settled_before() {
    let confirmed = Outcome::confirmed(1_000);
    let rejected = Outcome::rejected(Reason::SoldOut);
    let changes = vec![
        place(1, Verdict::Settled(confirmed)),
        place(2, Verdict::Duplicate),
        place(3, Verdict::Settled(rejected)),
        place(
            4,
            Verdict::Alias(place(1, Verdict::Duplicate).command.order_id()),
        ),
    ];
    let ids: Vec<_> = changes.iter().map(|it| it.command.order_id()).collect();
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
        .map(|number| place(number, Verdict::Duplicate))
        .collect();
    let messages: Vec<_> = messages(&ended(changes)).collect();
    let news: Vec<_> = messages
        .iter()
        .map(|message| news::read(message).expect("it can be read"))
        .collect();
    let orders: Vec<_> = news.iter().map(|news| news.found.len()).collect();
    assert_eq!(orders.iter().sum::<usize>(), 2_500);
    assert!(orders.len() < 6 && orders.iter().all(|orders| *orders <= 1_000));
    let stock: Vec<_> = news.iter().map(|news| news.stock.len()).collect();
    assert_eq!(stock[0], 1);
    assert!(stock[1..].iter().all(|stock| *stock == 0));
}

#[test]
fn an_order_that_failed_is_named_without_a_document() {
    let failed = place(9, Verdict::Duplicate).command.order_id();
    let ended = Ended {
        partition: 0,
        size_bytes: 1_000,
        settlements: Vec::new(),
        failed: vec![failed],
    };
    let messages: Vec<_> = messages(&ended).collect();
    let news = news::read(&messages[0]).expect("it can be read");
    assert_eq!((messages.len(), news.found), (1, vec![failed]));
    assert!(news.queue.is_none() && news.settled.is_empty());
}

#[test]
fn a_message_of_large_carts_has_fewer_orders_and_stays_within_its_bytes() {
    let items: Vec<_> = (0..20)
        .map(|item| serde_json::json!({ "sku": format!("{item:064}"), "quantity": 1_000 }))
        .collect();
    let cart = |number| {
        let rejected = Verdict::Settled(Outcome::rejected(Reason::UnknownSku));
        let mut placed = place(number, rejected);
        if let Command::Place(order) = &mut placed.command {
            order.items = serde_json::from_value(items.clone().into()).expect("valid items");
            order.customer_id =
                CustomerId::try_from("c".repeat(128).as_str()).expect("a valid name");
        }
        placed
    };
    let messages: Vec<_> = messages(&ended((0..500).map(cart).collect())).collect();
    let orders = messages.iter().map(|message| {
        let news = news::read(message).expect("it can be read");
        news.settled.len()
    });
    assert_eq!(orders.sum::<usize>(), 500);
    for message in &messages {
        assert!(message.len() <= MESSAGE_BYTES + 16_384, "{}", message.len());
    }
}
