//! What the file system does, without a mount: the statements of SEMANTICS.md, one by one.

#[path = "../common/mod.rs"]
mod common;

mod attributes;
mod buckets;
mod committing;
mod control;
mod damage;
mod files;
mod kept;
mod names;
mod values;

/// The call is refused with this error.
macro_rules! refused {
    ($call:expr, $error:pat) => {
        match $call {
            Err($error) => {}
            Err(e) => panic!("{}: {e:?}", stringify!($call)),
            Ok(_) => panic!("{}: not refused", stringify!($call)),
        }
    };
}
use refused;
