//! How keys and values look to a person: key to file name, value to shown text, and back.
pub mod json;
pub mod name;
pub mod text;
