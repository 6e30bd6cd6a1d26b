//! The bodies of changes: what an administrator may say of a product.

use super::{
    member::Change,
    rules::{Sale, SaleChange},
};
use crate::http::json::{Faults, Place, Value};

/// The longest title, in characters.
const TITLE_LENGTH_MAX: usize = 200;
/// The largest stock of one product.
pub(crate) const AVAILABLE_MAX: i64 = 1_000_000_000_000;

/// What a product is to be.
pub(crate) struct PutBody {
    pub(crate) title: String,
    pub(crate) unit_price_minor: i64,
    pub(crate) currency: String,
    pub(crate) available: i64,
    pub(crate) sale: Change<Sale>,
}

/// What of a product is to change.
pub(crate) struct PatchBody {
    pub(crate) title: Option<String>,
    pub(crate) unit_price_minor: Option<i64>,
    pub(crate) sale: Change<SaleChange>,
}

impl PatchBody {
    /// Reads a merge patch (RFC 7396), and notes everything that cannot be changed so.
    pub(crate) fn examine(body: &Value, shortest_hold: i64, faults: &mut Faults) -> Option<Self> {
        let names = ["title", "unit_price_minor", "sale"];
        let places = names.map(|name| Place::Member(&Place::Body, name));
        let [title, price, sale] = faults.optional_members(&Place::Body, body, names)?;
        let title = title.map(|value| examine_title(&places[0], value, faults));
        let price = price.map(|value| faults.price(&places[1], value));
        let sale = Change::read(sale, |value| {
            SaleChange::examine(value, shortest_hold, faults)
        });
        Some(Self {
            title: title.map_or(Some(None), |title| title.map(Some))?,
            unit_price_minor: price.map_or(Some(None), |price| price.map(Some))?,
            sale: sale?,
        })
    }
}

impl PutBody {
    /// Reads a product by hand, and notes everything that it cannot be.
    pub(crate) fn examine(body: &Value, shortest_hold: i64, faults: &mut Faults) -> Option<Self> {
        let names = ["title", "unit_price_minor", "currency", "available", "sale"];
        let places = names.map(|name| Place::Member(&Place::Body, name));
        let members = faults.optional_members(&Place::Body, body, names)?;
        for (place, member) in places.iter().zip(&members).take(4) {
            if member.is_none() {
                faults.add(place, "is missing");
            }
        }
        let [title, price, currency, available, sale] = members;
        let sale = Change::read(sale, |value| {
            let sale = SaleChange::examine(value, shortest_hold, faults)?;
            // A replacement names all rules: those that it does not name are off.
            let sale = sale.applied_to(Sale::default());
            if let Some(contradiction) = sale.contradiction() {
                faults.add(&contradiction.place(), contradiction.detail);
            }
            Some(sale)
        });
        let title = title.and_then(|value| examine_title(&places[0], value, faults));
        let price = price.and_then(|value| faults.price(&places[1], value));
        let currency = currency.and_then(|value| faults.currency(&places[2], value));
        let available =
            available.and_then(|value| faults.integer(&places[3], value, 0..=AVAILABLE_MAX));
        Some(Self {
            title: title?,
            unit_price_minor: price?,
            currency: currency?.to_owned(),
            available: available?,
            sale: sale?,
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
