//! Claims about settling: what a worker makes of the queue, and what no fault makes it do.

pub(crate) mod shop;
pub(crate) mod stream;

mod audits;
mod batches;
mod carts;
mod days;
mod dead_letters;
mod drains;
mod faults;
mod figures;
mod life;
mod limits;
mod ownership;
mod repeats;
mod roles;
mod seals;
mod sequence;
mod stampede;
mod starts;
