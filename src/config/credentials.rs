//! The admin token and the publish key: from the configuration, else made on first start and kept.

use super::Config;
use crate::auth::{NoRandomness, generate};
use crate::media::Secret;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// More than this is no secret of ours.
const FILE_LIMIT: u64 = 1024;

/// Who may administer and who may publish.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The API's bearer token.
    pub admin_token: Secret,
    /// The key that publishers of whatever stream show; `None`: there is none.
    pub publish_key: Option<Secret>,
}

/// Why the secrets can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The system said no.
    #[error("{path:?}: {why}; state_dir must be a folder that can be written")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// A file that holds no secret.
    #[error("{0:?} holds no usable secret; delete it and a new one is made")]
    BadFile(PathBuf),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

impl Credentials {
    /// The configured secrets; one that is not configured is read from the state folder, or made there
    /// with mode 0600 in a folder of mode 0700.
    pub fn load(config: &Config) -> Result<Self, CredentialsError> {
        Ok(Self {
            admin_token: kept(config.auth_admin_token.as_ref(), &config.state_dir, "admin-token")?,
            publish_key: match config.auth_stream_keys_only {
                true => None,
                false => Some(kept(config.auth_publish_key.as_ref(), &config.state_dir, "publish-key")?),
            },
        })
    }
}

fn kept(configured: Option<&Secret>, folder: &Path, name: &str) -> Result<Secret, CredentialsError> {
    if let Some(secret) = configured {
        return Ok(secret.clone());
    }
    let path = folder.join(name);
    let io = |why| CredentialsError::Io { path: path.clone(), why };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() > FILE_LIMIT => return Err(CredentialsError::BadFile(path)),
        Ok(_) => {
            let text = fs::read_to_string(&path).map_err(io)?;
            let text = text.trim();
            let fits = text.len() >= 16 && text.chars().all(|c| c.is_ascii_graphic());
            return if fits { Ok(Secret::new(text)) } else { Err(CredentialsError::BadFile(path)) };
        }
        Err(why) if why.kind() == io::ErrorKind::NotFound => {}
        Err(why) => return Err(io(why)),
    }
    let secret = generate()?;
    // Written aside and renamed, so that a crash leaves no half secret.
    let aside = folder.join(format!("{name}.new"));
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside).map_err(io)?;
    writeln!(file, "{}", secret.reveal()).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&aside, &path).map_err(io)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn secrets_are_made_once_and_are_the_owners_only() {
        let home = tempfile::tempdir().expect("a folder");
        let config = Config::new(home.path().join("deep/state"));
        let first = Credentials::load(&config).expect("made");
        let second = Credentials::load(&config).expect("read");
        assert!(first.admin_token.matches(second.admin_token.reveal()));
        let [first_key, second_key] =
            [&first, &second].map(|credentials| credentials.publish_key.clone().expect("made"));
        assert!(first_key.matches(second_key.reveal()) && !first_key.matches(first.admin_token.reveal()));
        assert_eq!(first_key.reveal().len(), 32);
        let mode = |path: &str| {
            let metadata = fs::metadata(config.state_dir.join(path)).expect("there");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!((mode(""), mode("admin-token"), mode("publish-key")), (0o700, 0o600, 0o600));
    }

    #[test]
    fn a_configured_secret_is_not_written_down() {
        let home = tempfile::tempdir().expect("a folder");
        let mut config = Config::new(home.path().join("state"));
        config.auth_admin_token = Some(Secret::new("configured-token"));
        config.auth_publish_key = Some(Secret::new("configured-key"));
        let credentials = Credentials::load(&config).expect("configured");
        assert!(credentials.admin_token.matches("configured-token"));
        assert!(!config.state_dir.exists());
    }

    #[test]
    fn a_broken_file_is_an_error_and_stays() {
        let home = tempfile::tempdir().expect("a folder");
        let config = Config::new(home.path());
        fs::write(home.path().join("admin-token"), "short").expect("written");
        assert!(matches!(Credentials::load(&config), Err(CredentialsError::BadFile(_))));
    }
}
