//! The bodies of changes: what an administrator may say of a product.

use crate::http::json::{Faults, Place, Value};

/// The longest title, in characters.
const TITLE_LENGTH_MAX: usize = 200;
/// The highest price of one piece, in the currency's smallest unit: with it, a full order's total still is a number
/// that JavaScript holds exactly.
const PRICE_MAX: i64 = 100_000_000_000;
/// The largest stock of one product.
pub(crate) const AVAILABLE_MAX: i64 = 1_000_000_000_000;

/// What a product is to be.
pub(crate) struct PutBody {
    pub(crate) title: String,
    pub(crate) unit_price_minor: i64,
    pub(crate) currency: String,
    pub(crate) available: i64,
}

impl PutBody {
    /// Reads a product by hand, and notes everything that it cannot be.
    pub(crate) fn examine(body: &Value, faults: &mut Faults) -> Option<Self> {
        let names = ["title", "unit_price_minor", "currency", "available"];
        let places = names.map(|name| Place::Member(&Place::Body, name));
        let [title, price, currency, available] = faults.members(&Place::Body, body, names)?;
        let title = title.and_then(|value| examine_title(&places[0], value, faults));
        let price = price.and_then(|value| examine_price(&places[1], value, faults));
        let currency = currency.and_then(|value| examine_currency(&places[2], value, faults));
        let available =
            available.and_then(|value| faults.integer(&places[3], value, 0..=AVAILABLE_MAX));
        Some(Self {
            title: title?,
            unit_price_minor: price?,
            currency: currency?,
            available: available?,
        })
    }
}

fn examine_title(place: &Place<'_>, value: &Value, faults: &mut Faults) -> Option<String> {
    let title = faults.text(place, value)?;
    if !(1..=TITLE_LENGTH_MAX).contains(&title.chars().count()) {
        faults.add(
            place,
            format_args!("must be 1 to {TITLE_LENGTH_MAX} characters"),
        );
    }
    if title.chars().any(char::is_control) {
        faults.add(place, "must not hold control characters");
    }
    Some(title.to_owned())
}

fn examine_price(place: &Place<'_>, value: &Value, faults: &mut Faults) -> Option<i64> {
    if let Value::Decimal = value {
        let detail = "must be a whole number of the currency's smallest unit: 4990 for 49.90";
        faults.add(place, detail);
        return None;
    }
    faults.integer(place, value, 0..=PRICE_MAX)
}

fn examine_currency(place: &Place<'_>, value: &Value, faults: &mut Faults) -> Option<String> {
    let currency = faults.text(place, value)?;
    if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
        let detail = "must be three capital letters of ISO 4217, such as EUR";
        faults.add(place, detail);
    }
    Some(currency.to_owned())
}

/// Where a restock says by how much.
pub(crate) const QUANTITY: Place<'_> = Place::Member(&Place::Body, "quantity");

/// Reads by how much a restock changes the stock.
pub(crate) fn examine_restock(body: &Value, faults: &mut Faults) -> Option<i64> {
    let [quantity] = faults.members(&Place::Body, body, ["quantity"])?;
    let quantity = faults.integer(&QUANTITY, quantity?, -AVAILABLE_MAX..=AVAILABLE_MAX)?;
    if quantity == 0 {
        faults.add(&QUANTITY, "must not be 0");
    }
    Some(quantity)
}
