//! TLS of a listener.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use safeconduct_types::Secret;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Certificate and key of a listener, and whose clients' certificates it takes.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The certificate chain, PEM, leaf first.
    pub certificate_pem: Vec<u8>,
    /// Its key, PEM.
    pub key_pem: Secret,
    /// The authorities of client certificates, PEM; without them clients show none.
    pub client_ca_pem: Option<Vec<u8>>,
    /// Whether a connection without a client certificate is refused. Otherwise its calls authenticate by token.
    pub client_required: bool,
}

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Something is not PEM or holds nothing.
    #[error("the {0} holds no usable PEM")]
    Pem(&'static str),
    /// The certificate, the key and the authorities do not fit together.
    #[error("the certificate and key cannot be used: {0}")]
    Unusable(String),
}

/// Performs handshakes.
#[derive(Clone)]
pub(super) struct Acceptor(TlsAcceptor);

impl Acceptor {
    pub(super) fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let builder = match &options.client_ca_pem {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(pem, "client authority")? {
                    roots.add(authority).map_err(|error| unusable(&error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if options.client_required { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable(&error))?)
            }
        };
        let chain = certificates(&options.certificate_pem, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(options.key_pem.expose()).map_err(|_| TlsError::Pem("key"))?;
        let mut config = builder.with_single_cert(chain, key).map_err(|error| unusable(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or(TlsError::Pem(what))
}
