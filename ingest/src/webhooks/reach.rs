//! Whether an endpoint's host may be reached: asked when its URL is registered, so that a mistake is heard at once. Whoever
//! sends asks again, each time that it connects.

use std::time::Duration;

use hotrow_shared::webhook::{AllowedNetworks, Scheme};
use tokio::{net::lookup_host, time::timeout};

use super::bodies::Target;

/// How long the look-up of a name may take.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// Makes sure that every address of a host may be reached.
///
/// # Errors
/// Why not, as it goes on behind the place of the URL.
pub(super) async fn require(target: &Target, networks: &AllowedNetworks) -> Result<(), String> {
    let lookup = timeout(LOOKUP_MAX, lookup_host((target.host.as_str(), target.port)));
    let addresses = match lookup.await {
        Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
        Ok(Err(_)) => Vec::new(),
        Err(_) => {
            return Err(format!(
                "the host's name was not resolved within {LOOKUP_MAX:?}"
            ));
        }
    };
    if addresses.is_empty() {
        return Err("the host's name cannot be resolved".to_owned());
    }
    let refused = addresses
        .iter()
        .find(|address| !networks.admit(target.scheme, address.ip()));
    let Some(refused) = refused else {
        return Ok(());
    };
    let address = refused.ip();
    Err(match target.scheme {
        Scheme::Https => format!(
            "leads to {address}, which is not a public address: WEBHOOK_ALLOWED_NETWORKS names the exceptions"
        ),
        Scheme::Http => format!(
            "must be https: plain http may go to the networks of WEBHOOK_ALLOWED_NETWORKS only, and {address} is in none"
        ),
    })
}
