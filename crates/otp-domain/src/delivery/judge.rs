//! What a provider's answer means for the message.

/// What becomes of a message after one attempt with one provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The provider has taken it.
    Taken,
    /// The provider will not take it, however often it is asked.
    Refused,
    /// Perhaps later.
    Later,
}

/// The verdict of an HTTP status. 429, 408, 425 and 5xx may be another answer next time (RFC 9110, section 15; RFC 6585,
/// section 4; RFC 8470, section 5.2), and so may 401 and 403, which are about our credential: it is read anew for each
/// attempt, and may be replaced before the code ends. Every other status that is no success stays what it is.
pub fn judge_status(status: u16, success: &[u16]) -> Verdict {
    let taken = if success.is_empty() { (200..300).contains(&status) } else { success.contains(&status) };
    match status {
        _ if taken => Verdict::Taken,
        401 | 403 | 408 | 425 | 429 | 500..=599 => Verdict::Later,
        _ => Verdict::Refused,
    }
}

/// The verdict of an SMTP reply code (RFC 5321, section 4.2.1): 4yz may be another answer next time. So may what is about
/// our login (RFC 4954, sections 4 and 6), which may be replaced before the code ends.
pub const fn judge_reply(code: u16) -> Verdict {
    match code {
        200..=299 => Verdict::Taken,
        530 | 534 | 535 | 538 => Verdict::Later,
        500..=599 => Verdict::Refused,
        _ => Verdict::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_faults_of_the_server_and_our_own_credential_are_asked_again_and_nothing_else_is() {
        for status in [401, 403, 408, 425, 429, 500, 503, 599] {
            assert_eq!(judge_status(status, &[]), Verdict::Later, "{status}");
        }
        for status in [301, 307, 400, 404, 422] {
            assert_eq!(judge_status(status, &[]), Verdict::Refused, "{status}");
        }
        assert_eq!(judge_status(201, &[]), Verdict::Taken);
        assert_eq!(judge_status(201, &[202]), Verdict::Refused, "only what the provider calls a success");
        assert_eq!(judge_status(202, &[202]), Verdict::Taken);
    }

    #[test]
    fn a_mail_server_that_says_later_is_asked_later() {
        assert_eq!([250, 421, 451, 550, 535, 554].map(judge_reply), {
            use Verdict::{Later, Refused, Taken};
            [Taken, Later, Later, Refused, Later, Refused]
        });
    }
}
