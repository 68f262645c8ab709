//! Where an upstream is.

use std::net::IpAddr;

use url::{Host, Url};

/// An upstream's origin: scheme, host and port, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    url: Url,
    host: TargetHost,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetHost {
    Name(String),
    Address(IpAddr),
}

/// A URL that no upstream can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TargetError {
    #[error("the URL cannot be read")]
    Malformed,
    #[error("the URL must start with https:// (http:// only where the upstream says `insecure_http: true`)")]
    Scheme,
    #[error("the URL must name a host")]
    Host,
    #[error("the URL must not carry a user name or password; use a credential")]
    Credentials,
}

impl Target {
    /// Reads the origin out of a URL. The scheme is looked at first: the parser reads hosts of unknown schemes as
    /// opaque text, `127.0.0.1` included.
    pub fn parse(url: &str, insecure_http: bool) -> Result<Self, TargetError> {
        let url = Url::parse(url).map_err(|_| TargetError::Malformed)?;
        match url.scheme() {
            "https" => {}
            "http" if insecure_http => {}
            _ => return Err(TargetError::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Credentials);
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => TargetHost::Name(name.to_owned()),
            Some(Host::Ipv4(address)) => TargetHost::Address(address.into()),
            Some(Host::Ipv6(address)) => TargetHost::Address(address.into()),
            Some(Host::Domain(_)) | None => return Err(TargetError::Host),
        };
        let port = url.port_or_known_default().ok_or(TargetError::Host)?;
        Ok(Self { url, host, port })
    }

    /// Whether `url` has this very scheme, host and port.
    pub fn is_origin_of(&self, url: &Url) -> bool {
        self.url.scheme() == url.scheme()
            && self.url.host() == url.host()
            && Some(self.port) == url.port_or_known_default()
            && url.username().is_empty()
            && url.password().is_none()
    }

    /// The host, for spans.
    pub fn host_str(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) const fn host(&self) -> &TargetHost {
        &self.host
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_unless_told_otherwise() {
        assert!(Target::parse("https://api.shop.example", false).is_ok());
        assert_eq!(Target::parse("http://api.shop.example", false), Err(TargetError::Scheme));
        assert!(Target::parse("http://api.shop.example", true).is_ok());
        for url in ["ftp://a.example", "file:///etc/passwd", "gopher://127.0.0.1", "data:,x"] {
            assert!(Target::parse(url, true).is_err(), "{url}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_that_address() {
        for url in [
            "https://2130706433",
            "https://0x7f.1",
            "https://0177.0.0.1",
            "https://１２７.０.０.１",
            "https://127。0。0。1",
        ] {
            let target = Target::parse(url, false).unwrap();
            assert_eq!(target.host(), &TargetHost::Address("127.0.0.1".parse().unwrap()), "{url}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused() {
        assert_eq!(Target::parse("https://me:pw@a.example", false), Err(TargetError::Credentials));
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let target = Target::parse("https://a.example/base", false).unwrap();
        let is = |url: &str| target.is_origin_of(&Url::parse(url).unwrap());
        assert!(is("https://a.example/other") && is("https://a.example:443/"));
        assert!(
            !is("http://a.example/")
                && !is("https://a.example:444/")
                && !is("https://b.example/")
                && !is("https://x@a.example/")
        );
    }
}
