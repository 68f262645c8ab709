//! A mail server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message};
use safeconduct_egress::{AddressPolicy, Cause, Guard, Target};
use safeconduct_otp_domain::delivery::{SmtpProvider, SmtpTls, Verdict, judge_reply};
use safeconduct_types::{Clock, Deadline, Timestamp};
use tokio::net::TcpStream;

use super::plain::Plain;
use super::{Carry, Keys, Outcome, Outgoing, Sender};

/// Connections that wait for the next message.
const MAX_IDLE: usize = 4;
/// How long they do. Servers close after minutes; a new connection costs less than one that is gone.
const IDLE: Duration = Duration::from_secs(30);
/// The longest that finding, connecting and greeting may take for one address.
const CONNECT: Duration = Duration::from_secs(4);

pub(super) struct Smtp {
    spec: SmtpProvider,
    guard: Guard,
    tls: Option<TlsParameters>,
    keys: Keys,
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("host", &self.spec.host).field("port", &self.spec.port).finish_non_exhaustive()
    }
}

/// Why a message did not leave, without the server's words.
struct Failed {
    why: &'static str,
    verdict: Verdict,
}

impl Failed {
    const fn later(why: &'static str) -> Self {
        Self { why, verdict: Verdict::Later }
    }
}

impl From<lettre::transport::smtp::Error> for Failed {
    fn from(error: lettre::transport::smtp::Error) -> Self {
        match error.status() {
            Some(code) => Self { why: "reply", verdict: judge_reply(u16::from(code)) },
            None if error.is_tls() => Self::later("tls"),
            None if error.is_client() => Self { why: "server lacks what is needed", verdict: Verdict::Refused },
            None => Self::later("connection"),
        }
    }
}

impl Smtp {
    pub(super) fn new(spec: SmtpProvider, keys: Keys, clock: &Arc<dyn Clock>) -> Result<Self, String> {
        let host = if spec.host.contains(':') { format!("[{}]", spec.host) } else { spec.host.clone() };
        let target =
            Target::parse(&format!("https://{host}:{}", spec.port), false).map_err(|error| error.to_string())?;
        let policy = AddressPolicy::allowing(spec.allow_addresses.clone());
        let guard = Guard::new(&target, policy, CONNECT, Arc::clone(clock));
        let tls = match spec.tls {
            SmtpTls::None => None,
            SmtpTls::Tls | SmtpTls::StartTls => Some(encryption(&spec.host, spec.ca.as_deref())?),
        };
        Ok(Self { spec, guard, tls, keys, idle: Mutex::default(), clock: Arc::clone(clock) })
    }

    /// One that waited and still answers, or a new one.
    async fn connection(&self, from: &Address) -> Result<AsyncSmtpConnection, Failed> {
        let now = self.clock.instant();
        let waiting = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|(_, since)| now.saturating_duration_since(*since) < IDLE);
            idle.pop()
        };
        if let Some((mut waiting, _)) = waiting
            && tokio::time::timeout(CONNECT, waiting.test_connected()).await == Ok(true)
        {
            return Ok(waiting);
        }
        let hello = ClientId::Domain(self.spec.hello.clone().unwrap_or_else(|| from.domain().to_owned()));
        let addresses = self.guard.addresses().await.map_err(|cause| match cause {
            Cause::Refused(_) => Failed { why: "address", verdict: Verdict::Refused },
            Cause::OtherOrigin
            | Cause::Resolve
            | Cause::Connect
            | Cause::Tls
            | Cause::Busy
            | Cause::Timeout
            | Cause::Broken => Failed::later("resolve"),
        })?;
        let mut failed = Failed::later("resolve");
        for address in addresses {
            let opened = tokio::time::timeout(CONNECT, self.open(address, &hello)).await;
            match opened.unwrap_or(Err(Failed::later("timeout"))) {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// A connection to a checked address: encrypted where the file says so, and signed in.
    async fn open(&self, address: std::net::SocketAddr, hello: &ClientId) -> Result<AsyncSmtpConnection, Failed> {
        let mut connection = match (self.spec.tls, &self.tls) {
            (SmtpTls::Tls, Some(tls)) => {
                AsyncSmtpConnection::connect_tokio1(address, Some(CONNECT), hello, Some(tls.clone()), None).await?
            }
            (SmtpTls::StartTls, Some(tls)) => {
                let stream = TcpStream::connect(address).await.map_err(|_| Failed::later("connection"))?;
                let mut plain =
                    AsyncSmtpConnection::connect_with_transport(Box::new(Plain::new(stream)), hello).await?;
                // Without the upgrade nothing follows: a server that offers none is refused.
                plain.starttls(tls.clone(), hello).await?;
                plain
            }
            (SmtpTls::None, _) => {
                AsyncSmtpConnection::connect_tokio1(address, Some(CONNECT), hello, None, None).await?
            }
            (SmtpTls::Tls | SmtpTls::StartTls, None) => return Err(Failed::later("tls")),
        };
        if let Some((user, password)) = &self.spec.login {
            let password = self.keys.text(password).ok_or(Failed::later("secret"))?;
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
        }
        Ok(connection)
    }

    async fn hand_over(&self, envelope: &Envelope, mail: &[u8], from: &Address) -> Result<(), Failed> {
        let mut connection = self.connection(from).await?;
        // One that is dropped on the way, at the end of the time for instance, is in nobody knows which state, and is
        // not used again.
        let sent = connection.send(envelope, mail).await;
        if !connection.has_broken() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MAX_IDLE {
                idle.push((connection, self.clock.instant()));
            }
        }
        sent.map(drop).map_err(Failed::from)
    }
}

#[async_trait]
impl Carry for Smtp {
    async fn carry(&self, message: &Outgoing<'_>, from: &Sender, _: Deadline) -> Outcome {
        let Some((envelope, mail, sender)) = compose(message, from, self.clock.now()) else {
            return Outcome::Refused("address");
        };
        match self.hand_over(&envelope, &mail, &sender).await {
            Ok(()) => Outcome::Sent,
            Err(Failed { why, verdict: Verdict::Refused }) => Outcome::Refused(why),
            Err(Failed { why, verdict: Verdict::Later | Verdict::Taken }) => Outcome::Later(why, None),
        }
    }
}

/// TLS towards `host`, vouched for by `ca` (PEM) alone, or by whom the machine trusts.
fn encryption(host: &str, ca: Option<&str>) -> Result<TlsParameters, String> {
    let mut tls = TlsParameters::builder(host.to_owned());
    if let Some(ca) = ca {
        let ca = Certificate::from_pem(ca.as_bytes()).map_err(|_| "`ca` holds no certificates".to_owned())?;
        tls = tls.certificate_store(CertificateStore::None).add_root_certificate(ca);
    }
    tls.build().map_err(|_| "the certificates to trust cannot be had".to_owned())
}

/// The mail as it travels; `None` if an address is none. Every header is made of checked or encoded values.
fn compose(message: &Outgoing<'_>, from: &Sender, now: Timestamp) -> Option<(Envelope, Vec<u8>, Address)> {
    let sender: Address = from.address.parse().ok()?;
    let to: Address = message.to.parse().ok()?;
    // The composer panics over a control character in a name.
    let name = Some(one_line(&from.name)).filter(|name| !name.is_empty());
    let seconds = u64::try_from(now.as_seconds()).unwrap_or_default();
    let mail = Message::builder()
        .from(Mailbox::new(name, sender.clone()))
        .to(Mailbox::new(None, to.clone()))
        .subject(one_line(message.subject))
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        // The same for each attempt: most mail systems show a repeat once.
        .message_id(Some(format!("<{}@{}>", message.id, sender.domain())))
        // Nobody's holiday answers this (RFC 3834, section 5).
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
        .multipart(MultiPart::alternative_plain_html(message.text.to_owned(), message.html.to_owned()))
        .ok()?;
    let envelope = Envelope::new(Some(sender.clone()), vec![to]).ok()?;
    Some((envelope, mail.formatted(), sender))
}

/// With blanks for control characters. Neither is anything that a caller of ours wrote; should it ever be, it is one line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use safeconduct_types::SecretText;

    use super::*;

    fn composed(subject: &str, text: &str, name: &str, to: &str) -> Option<String> {
        let code = SecretText::new("123456".to_owned());
        let message = Outgoing { id: "0af1", to, subject, text, html: "<p>x</p>", code: &code };
        let from = Sender { name: name.to_owned(), address: "no-reply@acme.example".to_owned() };
        let (_, mail, _) = compose(&message, &from, Timestamp::from_seconds(1_800_000_000))?;
        Some(String::from_utf8(mail).unwrap())
    }

    fn headers(mail: &str) -> Vec<&str> {
        let (head, _) = mail.split_once("\r\n\r\n").unwrap();
        head.split("\r\n").filter(|line| !line.starts_with(' ')).filter_map(|line| line.split(':').next()).collect()
    }

    #[test]
    fn a_mail_has_a_plain_and_an_html_part_and_an_id_of_its_own() {
        let mail = composed("Your code", "123456 is your code", "Acme", "ada@b.example").unwrap();
        for part in [
            "From: Acme <no-reply@acme.example>\r\n",
            "To: ada@b.example\r\n",
            "Message-ID: <0af1@acme.example>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Content-Type: multipart/alternative",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Type: text/html; charset=utf-8",
            "Date: Fri, 15 Jan 2027 08:00:00 +0000",
        ] {
            assert!(mail.contains(part), "{part} in {mail}");
        }
        assert!(
            mail.find("text/plain") < mail.find("text/html"),
            "the richest part comes last (RFC 2046, section 5.1.4)"
        );
    }

    #[test]
    fn a_line_break_in_a_subject_or_a_name_makes_no_header() {
        let usual = composed("Your code", "x", "Acme", "ada@b.example").unwrap();
        let hostile = "x\r\nBcc: mallory@evil.example\r\n\r\nbody";
        let mail = composed(hostile, "x", hostile, "ada@b.example").unwrap();
        assert_eq!(headers(&mail), headers(&usual), "{mail}");
        for to in ["ada@b.example\r\nBcc: x@y.example", "ada@b.example, x@y.example", "no address", "<a@b.example>"] {
            assert!(composed("s", "x", "Acme", to).is_none(), "{to}");
        }
    }
}
