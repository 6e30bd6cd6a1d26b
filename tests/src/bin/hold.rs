//! Starts the servers, says where they are, and holds them until its standard input ends.
//!
//! For a developer who wants a pair of servers at hand; what it prints are the settings that let
//! the tests and the product use them. The claim about the guardians kills it.

use std::io::Read;

use hotrow_tests::Place;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let place = Place::new().await?;
    println!("DATABASE_URL={}", place.database_url);
    println!("AMQP_URL={}", place.amqp_url);
    println!(
        "RABBITMQ_MANAGEMENT_URL={}",
        place.servers().rabbitmq.management_url()
    );
    // Until standard input ends, or we are killed.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
