use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use safeconduct_service::channel::{SisterChannel, TcpOptions};
use safeconduct_service::server::TlsOptions;
use safeconduct_types::{Secret, SystemClock};
use tonic::Code;

use crate::echo::call;
use crate::suite::{Running, Setup};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    fn issue(&self, name: &str) -> (Vec<u8>, Secret) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem().into_bytes(), Secret::new(key.serialize_pem().into_bytes()))
    }
}

fn server(authority: &Authority, client_required: bool) -> Running {
    let (certificate_pem, key_pem) = authority.issue("localhost");
    let tls = TlsOptions { certificate_pem, key_pem, client_ca_pem: Some(authority.pem()), client_required };
    Setup { tls: Some(tls), ..Setup::default() }.start()
}

fn channel(server: &Running, authority: &Authority, identity: Option<(Vec<u8>, Secret)>) -> SisterChannel {
    let uri = format!("https://localhost:{}", server.address.port());
    let options = TcpOptions { ca_pem: Some(authority.pem()), identity, ..TcpOptions::new(uri) };
    SisterChannel::tcp(&options, Arc::new(SystemClock)).expect("usable certificates")
}

fn request() -> tonic::Request<String> {
    tonic::Request::new(String::new())
}

#[tokio::test]
async fn a_certificate_of_the_authority_says_who_calls() {
    let authority = Authority::new();
    let server = server(&authority, true);
    let channel = channel(&server, &authority, Some(authority.issue("agent")));
    assert_eq!(call(&channel, "Caller", request()).await.expect("an answer"), "certified");
}

#[tokio::test]
async fn where_certificates_are_optional_a_call_without_one_must_prove_itself_otherwise() {
    let authority = Authority::new();
    let server = server(&authority, false);
    let status = call(&channel(&server, &authority, None), "Caller", request()).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn where_certificates_are_required_nothing_else_connects() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = server(&authority, true);
    for identity in [None, Some(other.issue("agent"))] {
        let status = call(&channel(&server, &authority, identity), "Caller", request()).await.expect_err("refused");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }
    assert_eq!(server.process.metrics.in_flight(), 0);
}
