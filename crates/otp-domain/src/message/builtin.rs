//! The texts that stand behind a workspace's own.

use std::sync::LazyLock;

use super::{Locale, Template};

/// One language's sentences.
struct Sentences {
    subject: &'static str,
    /// What the code is and what it is for.
    lead: &'static str,
    /// How long it counts.
    ends: &'static str,
    /// What to do if one has not asked for it, and that nobody asks for it.
    warning: &'static str,
    sms: &'static str,
}

static ENGLISH: LazyLock<Template> = LazyLock::new(|| {
    template_of(&Sentences {
        subject: "Your code for ${brand}",
        lead: "Your code to ${purpose} at ${brand}:",
        ends: "It counts for ${minutes} minutes.",
        warning: "Type it only where you asked for it, and give it to nobody on the phone or in a message. If you did not \
                  ask for it, ignore this message: nothing happens without the code.",
        sms: "${code} is your code to ${purpose} at ${brand}. It counts for ${minutes} min. Give it to nobody.",
    })
});

static GERMAN: LazyLock<Template> = LazyLock::new(|| {
    template_of(&Sentences {
        subject: "Ihr Code für ${brand}",
        lead: "Ihr Code für ${brand} (${purpose}):",
        ends: "Er gilt ${minutes} Minuten.",
        warning: "Geben Sie ihn nur dort ein, wo Sie ihn angefordert haben, und nennen Sie ihn niemandem am Telefon oder \
                  in einer Nachricht. Haben Sie ihn nicht angefordert, ignorieren Sie diese Nachricht: Ohne den Code \
                  geschieht nichts.",
        sms: "${code} ist Ihr Code für ${brand} (${purpose}). Er gilt ${minutes} Min. Nennen Sie ihn niemandem.",
    })
});

static FRENCH: LazyLock<Template> = LazyLock::new(|| {
    template_of(&Sentences {
        subject: "Votre code pour ${brand}",
        lead: "Votre code pour ${brand} (${purpose}) :",
        ends: "Il est valable ${minutes} minutes.",
        warning: "Ne le saisissez que là où vous l’avez demandé et ne le donnez à personne, ni par téléphone ni par \
                  message. Si vous ne l’avez pas demandé, ignorez ce message : rien ne se passe sans le code.",
        sms: "${code} est votre code pour ${brand} (${purpose}). Valable ${minutes} min. Ne le donnez à personne.",
    })
});

static SPANISH: LazyLock<Template> = LazyLock::new(|| {
    template_of(&Sentences {
        subject: "Su código para ${brand}",
        lead: "Su código para ${brand} (${purpose}):",
        ends: "Es válido durante ${minutes} minutos.",
        warning: "Escríbalo solo donde lo haya pedido y no se lo dé a nadie por teléfono ni por mensaje. Si no lo ha \
                  pedido, ignore este mensaje: sin el código no ocurre nada.",
        sms: "${code} es su código para ${brand} (${purpose}). Válido ${minutes} min. No se lo dé a nadie.",
    })
});

pub(super) fn english() -> &'static Template {
    &ENGLISH
}

pub(super) fn template(locale: &Locale) -> Option<&'static Template> {
    match locale.as_str() {
        "en" => Some(&ENGLISH),
        "de" => Some(&GERMAN),
        "fr" => Some(&FRENCH),
        "es" => Some(&SPANISH),
        _ => None,
    }
}

fn template_of(from: &Sentences) -> Template {
    let Sentences { subject, lead, ends, warning, sms } = from;
    Template {
        subject: (*subject).to_owned(),
        text: format!("{lead}\n\n    ${{code}}\n\n{ends}\n\n{warning}\n\n${{brand}}\n"),
        html: format!(
            "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"></head>\n<body style=\"font-family:sans-serif;\
             max-width:32em\">\n<p>{lead}</p>\n<p style=\"font-size:2em;letter-spacing:.15em\"><strong>${{code}}</strong>\
             </p>\n<p>{ends}</p>\n<p>{warning}</p>\n<p>${{brand}}</p>\n</body></html>\n"
        ),
        sms: (*sms).to_owned(),
    }
}
