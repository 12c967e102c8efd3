//! What the program is to do.

use super::{CheckHls, Config, ConfigError};
use std::ffi::OsString;

/// A command line, read.
#[derive(Debug)]
pub enum Command {
    /// No command: serve.
    Serve(Box<Config>),
    /// `check-hls`
    CheckHls(CheckHls),
}

impl Command {
    /// Reads the command line (`arguments` begins with the program's name); if it is to serve, the environment
    /// and the file as well.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        match arguments.get(1).and_then(|argument| argument.to_str()) {
            Some("check-hls") => CheckHls::read(arguments.into_iter().skip(1)).map(Self::CheckHls),
            _ => Config::load(arguments, environment).map(|config| Self::Serve(Box::new(config))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_command_it_serves() {
        let home = [(OsString::from("HOME"), OsString::from("/home/x"))];
        let read = |line: &str| Command::read(line.split(' ').map(OsString::from), home.clone());
        assert!(matches!(read("tidegate --demo"), Ok(Command::Serve(config)) if config.demo));
        assert!(matches!(read("tidegate check-hls http://h/"), Ok(Command::CheckHls(_))));
        assert!(matches!(read("tidegate serve"), Err(ConfigError::Usage(_))));
    }
}
