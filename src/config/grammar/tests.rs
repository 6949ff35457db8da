//! The grammar as tables: what each string is parsed into, and where what is not in it is refused.

use super::*;
use crate::config::Value;

/// A short spelling of parts, for tables: `<…>` is an interpolation.
fn spell(parts: &[Part]) -> String {
    let part = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Interpolation(Interpolation { kind: Reference::Path(path), .. }) => format!("<{}>", spell(path)),
        Part::Interpolation(Interpolation { kind: Reference::Resolver { name, arguments }, .. }) => {
            let arguments: Vec<_> = arguments.iter().map(spell_element).collect();
            format!("<{}:{}>", spell(std::slice::from_ref(name)), arguments.join(";"))
        }
    };
    parts.iter().map(part).collect()
}

fn spell_element(element: &Element) -> String {
    match element {
        Element::Scalar(Value::Text(text)) => format!("\"{text}\""),
        Element::Scalar(value) => format!("{value:?}"),
        Element::Mixed(parts) => spell(parts),
        Element::Quoted(parts) => format!("'{}'", spell(parts)),
        Element::List(list) => format!("[{}]", list.iter().map(spell_element).collect::<Vec<_>>().join(";")),
        Element::Dict(dict) => {
            let entries: Vec<_> = dict.iter().map(|(key, e)| format!("{key}={}", spell_element(e))).collect();
            format!("{{{}}}", entries.join(";"))
        }
    }
}

#[test]
fn texts_and_paths() {
    for (text, wanted) in [
        ("plain", "plain"),
        ("${a}", "<a>"),
        ("${a.b.c}", "<a.b.c>"),
        ("x ${a} y ${b}", "x <a> y <b>"),
        ("${.a}${..b}${...c}", "<.a><..b><...c>"),
        ("${a[0]}${a.0}${[a][0]}${a[0].b}", "<a.0><a.0><a.0><a.0.b>"),
        ("${.[a]}", "<.a>"),
        ("${a.${k}}${a[${k}]}${${k}}", "<a.<k>><a.<k>><<k>>"),
        ("${ dict.a }", "<dict.a>"),
        ("${x@y}${$x$}${0}${1.2}${a-b}", "<x@y><$x$><0><1.2><a-b>"),
        (r"\${x}", "${x}"),
        (r"\\${x}", r"\<x>"),
        (r"\\\${x}", r"\${x}"),
        (r"\\\\${x}", r"\\<x>"),
        (r"a\b\\c \$ \", r"a\b\\c \$ \"),
        ("$5 a$b $${e} $", "$5 a$b $<e> $"),
        ("I'd like ${str}", "I'd like <str>"),
        ("${str}}", "<str>}"),
        ("{\"a\": ${b}}", "{\"a\": <b>}"),
        ("${a}\n${b}", "<a>\n<b>"),
    ] {
        assert_eq!(parse_text(text).map(|parts| spell(&parts)).as_deref(), Ok(wanted), "{text}");
    }
}

#[test]
fn resolvers_and_their_arguments() {
    for (text, wanted) in [
        ("${f:}", "<f:>"),
        ("${f: }", "<f:>"),
        ("${f:a,b}", r#"<f:"a";"b">"#),
        ("${f:a,b,}", r#"<f:"a";"b";"">"#),
        ("${f:,}", r#"<f:"";"">"#),
        ("${f:a,,b}", r#"<f:"a";"";"b">"#),
        ("${test : foo}", r#"<test:"foo">"#),
        ("${ns1.ns2.test:x}", r#"<ns1.ns2.test:"x">"#),
        ("${${name}:x}", r#"<<name>:"x">"#),
        ("${f:null,NULL,TrUe,false}", "<f:Null;Null;Bool(true);Bool(false)>"),
        ("${f:+123,1_000,-0}", "<f:Int(123);Int(1000);Int(0)>"),
        ("${f:007,1__000,_1}", r#"<f:"007";"1__000";"_1">"#),
        ("${f:.1,1.,1_0e1_0,1e-2}", "<f:Float(0.1);Float(1.0);Float(100000000000.0);Float(0.01)>"),
        ("${f:inf,-INF,-nan}", "<f:Float(inf);Float(-inf);Float(NaN)>"),
        ("${f:01e2,0_e0}", r#"<f:"01e2";"0_e0">"#),
        ("${f: a b\tc }", "<f:\"a b\tc\">"),
        (r"${f:/-\+.$%*@?|:}", r#"<f:"/-\+.$%*@?|:">"#),
        (r"${f:a\,b,c\:d,e\=f,\(\)\[\]\{\},g\ }", r#"<f:"a,b";"c:d";"e=f";"()[]{}";"g ">"#),
        (r"${f:a\\}", r#"<f:"a\">"#),
        ("${f:http://x.y:80/z}", r#"<f:"http://x.y:80/z">"#),
        ("${f:' a , b '}", "<f:' a , b '>"),
        (r"${f:'it\'s'}", "<f:'it's'>"),
        (r"${f:'a\\'}", r"<f:'a\'>"),
        (r"${f:'a\n\\b'}", r"<f:'a\n\\b'>"),
        ("${f:'a_${str}'}", "<f:'a_<str>'>"),
        (r"${f:'\${x}'}", "<f:'${x}'>"),
        ("${f:\"it's\"}", "<f:'it's'>"),
        ("${f:[1, 'b', [c]],{a: 1, b: x y}}", r#"<f:[Int(1);'b';["c"]];{a=Int(1);b="x y"}>"#),
        ("${f:[a: , b:]}", r#"<f:["a: ";"b:"]>"#),
        ("${f:[],{},[a,]}", r#"<f:[];{};["a";""]>"#),
        ("${f:{b:: b}}", r#"<f:{b=": b"}>"#),
        ("${f:{1: a, null: b, true: c, 1.5: d}}", r#"<f:{1="a";null="b";true="c";1.5="d"}>"#),
        ("${f:${a},x_${a}_y,${a} ${b}}", "<f:<a>;x_<a>_y;<a> <b>>"),
        ("${f: ${a} }", "<f:<a>>"),
        (r"${f:\ a\ , ${a}\ }", "<f:\" a \";<a> >"),
        ("${f:${g:${h:1}}}", "<f:<g:<h:Int(1)>>>"),
        ("${f:{a: ${b}}}", "<f:{a=<b>}>"),
    ] {
        assert_eq!(parse_text(text).map(|parts| spell(&parts)).as_deref(), Ok(wanted), "{text}");
    }
}

#[test]
fn what_is_not_in_the_grammar_is_refused_with_its_location() {
    for (text, at) in [
        ("${", 0),
        ("a ${b", 2),
        ("${}", 2),
        ("${.}", 3),
        ("${..}", 4),
        ("${foo . bar}", 6),
        ("${a.}", 4),
        ("${a..b}", 4),
        ("${'a.b'}", 2),
        ("${a b}", 4),
        ("${a[0}", 5),
        ("${a[]}", 4),
        ("${some_${x}:a}", 8),
        ("${a${b}}", 4),
        ("${.f:a}", 4),
        ("${1f:a}", 4),
        ("${f:è}", 4),
        ("${f:a#b}", 5),
        ("${f:a!}", 5),
        ("${f:a\"b}", 5),
        ("${f:'a}", 4),
        ("${f:'a' b}", 8),
        ("${f:[a}", 6),
        ("${f:{a}}", 6),
        ("${f:{'a': 1}}", 5),
        ("${f:{a: 1", 9),
        ("${f:a", 0),
        ("${f:a=b}", 5),
        ("${f:(a)}", 4),
        ("${f:{${a}: 1}}", 9),
        ("${f:a[0]}", 5),
    ] {
        let error = parse_text(text).expect_err(text);
        assert_eq!(error.at, at, "{text}: {error:?}");
    }
}

#[test]
fn nesting_is_bounded() {
    for text in [
        "${".repeat(10_000),
        "${f:".repeat(10_000),
        format!("${{f:{}", "[".repeat(10_000)),
        format!("${{f:{}", "{a:".repeat(10_000)),
    ] {
        let error = parse_text(&text).expect_err("too deep");
        assert!(error.message.contains("deep"), "{error:?}");
    }
}

#[test]
fn decoded_texts_are_one_element() {
    for (text, wanted) in [
        ("12", "Int(12)"),
        ("1.5", "Float(1.5)"),
        (" 1.5 ", "\" 1.5 \""),
        ("[1, a]", r#"[Int(1);"a"]"#),
        ("{a: 1}", "{a=Int(1)}"),
        ("'x'", "'x'"),
        ("a b", "\"a b\""),
        ("null", "Null"),
        ("${x}", "<x>"),
    ] {
        assert_eq!(parse_element(text).map(|e| spell_element(&e)).as_deref(), Ok(wanted), "{text}");
    }
    for text in ["[1", "a, b", "{a: 1}}", "x]", "", " "] {
        assert!(parse_element(text).is_err(), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[-a${}\\[\\]:,.'\"\\\\ 0ü\n]{0,40}") {
        if let Err(error) = parse_text(&text) {
            proptest::prop_assert!(text.is_char_boundary(error.at));
        }
        let _ = parse_element(&text).is_ok();
    }
}
