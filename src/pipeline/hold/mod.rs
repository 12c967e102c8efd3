//! The hold: what is shown and heard while a publisher is silent or away.
#![allow(dead_code)]
mod pace;
mod picture;
mod silence;
mod slate;
mod still;
#[cfg(test)]
mod tests;
