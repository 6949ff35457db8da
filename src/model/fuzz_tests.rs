//! Escaping and masking, for texts that nobody expects.

use super::{
    Secret, SecretMask,
    fuzz::{Random, fuzz},
    visible, visible_json, visible_line,
};

const TEXTS: &[&str] = &[
    "Incorrect API key provided: KEY. See https://host/account?key=KEY&x=1",
    "\u{1b}]0;title\u{7} \u{202e}txet\u{2066} \u{9b}31m été ☃ \u{1f600}",
    "{\"error\": {\"message\": \"bad\\u001b[0m\", \"code\": 401}}",
    "Authorization: Basic YWRhOktFWQ==\r\nX-Api-Key:\tKEY\n",
];
const WORDS: &[&str] =
    &["\u{1b}[", "\u{7f}", "\u{85}", "\u{2028}", "\u{200f}", "\u{e000}", "\\x1b", "%", "&#", "\\u", "***", "\0"];

/// Characters that steer a terminal or reorder a text.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[test]
fn no_text_reaches_a_terminal_with_characters_that_steer_it() {
    fuzz("escape", 24000, |random| {
        let text = random.mutated_text(TEXTS, WORDS);
        let line = visible_line(&text);
        assert!(!line.chars().any(steers), "{line:?}");
        let shown = visible(&text);
        assert!(!shown.chars().any(|c| steers(c) && c != '\n' && c != '\t'), "{shown:?}");
        assert_eq!(visible(&shown), shown, "a second time changes nothing");
        let plain: String = text.chars().filter(|c| !steers(*c)).collect();
        let kept: String = text.chars().filter(|c| !steers(*c) || matches!(c, '\n' | '\t')).collect();
        assert!(shown.len() >= plain.len() && shown.chars().filter(|c| matches!(c, '\n' | '\t')).count() <= kept.len());
        let json = visible_json(serde_json::json!({ text.as_str(): [text.as_str()] })).to_string();
        assert!(!json.chars().any(steers), "{json:?}");
    });
}

/// A secret of the characters that keys and passwords have.
fn secret(random: &mut Random) -> String {
    const CHARACTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+/=!%&<>\"'\\ #";
    let characters = if random.below(2) == 0 { &CHARACTERS[..62] } else { CHARACTERS };
    let length = 12 + random.below(60);
    let secret: String = (0..length).map(|_| char::from(characters[random.below(characters.len())])).collect();
    // Blanks at the ends are no part of a key.
    format!("x{secret}y")
}

fn spelled(random: &mut Random, secret: &str) -> String {
    let each = |write: &dyn Fn(u8) -> String| secret.bytes().map(write).collect::<String>();
    let hex = |upper: bool| each(&|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
    match random.below(12) {
        0 => secret.to_owned(),
        1 => secret.to_uppercase(),
        2 => secret.to_lowercase(),
        3 => base64_simd::STANDARD.encode_to_string(secret),
        4 => base64_simd::STANDARD.encode_to_string(format!("ada:{secret}")),
        5 => base64_simd::URL_SAFE_NO_PAD.encode_to_string(format!("{secret}:ada")),
        6 => each(&|byte| format!("%{byte:02X}")),
        7 => hex(false),
        8 => hex(true),
        9 => each(&|byte| format!("&#{byte};")),
        10 => {
            let at = secret.len() / 2;
            format!("{}{}{}", &secret[..at], random.one(&["\n", " ", "\r\n  "]), &secret[at..])
        }
        _ => serde_json::Value::from(secret).to_string(),
    }
}

#[test]
fn no_spelling_of_a_secret_is_left_in_a_message() {
    fuzz("scrub", 1800, |random| {
        let secret = secret(random);
        let mask = SecretMask::default();
        mask.add(&Secret::new(secret.as_str()));
        let spelling = spelled(random, &secret);
        let text = random.mutated_text(TEXTS, WORDS).replace("KEY", &spelling) + " " + &spelling + " end";
        let masked = mask.mask(&text).into_owned();
        assert!(!masked.contains(&spelling), "{spelling:?} of {secret:?} is left in {masked:?}");
        // A quarter of it helps nobody; half of it does.
        let half = spelling.len() / 2;
        for part in [spelling.get(..half), spelling.get(half..)].into_iter().flatten().filter(|part| part.len() > 16) {
            assert!(!masked.contains(part), "{part:?}, a half of {secret:?}, is left in {masked:?}");
        }
        assert_eq!(mask.mask(&masked), masked, "a second time changes nothing");
        assert!(masked.len() <= text.len() + 3);
    });
}
