//! What a shell user's fingers know, through a real mount, and what then stands in the database, as the real bbolt reads
//! it. Each test runs twice: as whoever runs the tests (root, in the continuous integration) and as an ordinary user.

#[path = "../common/mod.rs"]
mod common;

mod bench;
mod terminal;

/// Makes two tests of each function: one as the caller, one as an ordinary user.
macro_rules! as_everybody {
    ($($(#[$doc:meta])* fn $name:ident($user:ident) $body:block)*) => {
        $($(#[$doc])* fn $name($user: $crate::bench::User) $body)*

        mod as_the_caller {
            $(#[test] fn $name() { super::$name($crate::bench::User::Caller) })*
        }

        mod as_an_ordinary_user {
            $(#[test] fn $name() { super::$name($crate::bench::User::Ordinary) })*
        }
    };
}

mod copies;
mod editors;
mod in_place;
mod leftovers;
mod many;
mod moves;
mod names;
mod night;
mod reading;
mod sharing;
mod sync;
