//! Compiles `proto/` with protox (no system compiler) into messages, clients, servers and a descriptor set, and
//! writes a `Debug` that hides what the contracts mark with `debug_redact`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use protox::Compiler;
use protox::prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};

/// Options travel as bytes that prost's own descriptor types drop; only the reflective pool still has this one.
const REDACT: &str = "debug_redact";

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../../proto");
    // The inner folder first: a file takes its name from the first include that holds it.
    let includes = [root.join("third_party"), root.to_path_buf()];
    println!("cargo:rerun-if-changed={}", root.display());

    let mut files = Vec::new();
    collect(&root.join("safeconduct"), &mut files)?;
    collect(&root.join("third_party"), &mut files)?;
    files.sort();

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let pool = {
        let mut compiler = Compiler::new(&includes)?;
        compiler.include_source_info(false).include_imports(true).open_files(&files)?;
        fs::write(out.join("safeconduct.fds"), compiler.encode_file_descriptor_set())?;
        compiler.descriptor_pool()
    };
    let hidden = hidden_messages(&pool);

    let mut compiler = Compiler::new(&includes)?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .bytes(".")
        .btree_map(".")
        .skip_debug(hidden.iter().map(|message| format!(".{}", message.full_name())))
        .compile_fds(compiler.file_descriptor_set())?;

    let mut impls: BTreeMap<String, String> = BTreeMap::new();
    for message in &hidden {
        let text = impls.entry(message.package_name().to_owned()).or_default();
        message_debug(text, message)?;
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            oneof_debug(text, message, &oneof)?;
        }
    }
    for (package, text) in impls {
        let path = out.join(format!("{}.rs", module_path(&package).join(".")));
        OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes())?;
    }
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// The messages with a marked field, and those nested in them: prost skips `Debug` for a whole path.
fn hidden_messages(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    pool.all_messages()
        .filter(|message| !message.is_map_entry())
        .filter(|message| {
            let mut scope = Some(message.clone());
            while let Some(current) = scope {
                if current.fields().any(|field| is_redacted(&field)) {
                    return true;
                }
                scope = current.parent_message();
            }
            false
        })
        .collect()
}

fn is_redacted(field: &FieldDescriptor) -> bool {
    let options = field.options();
    options.get_field_by_name(REDACT).and_then(|value| value.as_bool()).unwrap_or(false)
}

fn message_debug(text: &mut String, message: &MessageDescriptor) -> Result<(), Box<dyn Error>> {
    writeln!(text, "impl ::core::fmt::Debug for {} {{", rust_path(message.full_name(), message.package_name()))?;
    writeln!(text, "    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{")?;
    writeln!(text, "        f.debug_struct({:?})", message.name())?;
    for field in message.fields() {
        if field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic()) {
            continue;
        }
        writeln!(text, "            .field({:?}, &{})", field.name(), shown(&field))?;
    }
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        writeln!(text, "            .field({:?}, &self.{})", oneof.name(), identifier(oneof.name()))?;
    }
    writeln!(text, "            .finish()\n    }}\n}}")?;
    Ok(())
}

/// The expression that stands for a field's value in the output.
fn shown(field: &FieldDescriptor) -> String {
    if is_redacted(field) {
        return "::core::format_args!(\"[redacted]\")".to_owned();
    }
    let value = format!("self.{}", identifier(field.name()));
    let Kind::Enum(of) = field.kind() else { return value };
    if field.is_map() {
        return value;
    }
    let path = rust_path(of.full_name(), of.package_name());
    let name = format!("|n: &i32| {path}::try_from(*n).map_err(|_| *n)");
    if field.is_list() {
        format!("{value}.iter().map({name}).collect::<::std::vec::Vec<_>>()")
    } else if field.supports_presence() {
        format!("{value}.as_ref().map({name})")
    } else {
        format!("({name})(&{value})")
    }
}

fn oneof_debug(text: &mut String, message: &MessageDescriptor, oneof: &OneofDescriptor) -> Result<(), Box<dyn Error>> {
    let path = format!("{}.{}", message.full_name(), camel(oneof.name()));
    writeln!(text, "impl ::core::fmt::Debug for {} {{", rust_path(&path, message.package_name()))?;
    writeln!(text, "    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{")?;
    writeln!(text, "        match self {{")?;
    for field in oneof.fields() {
        let name = camel(field.name());
        if is_redacted(&field) {
            writeln!(text, "            Self::{name}(_) => f.write_str(\"{name}([redacted])\"),")?;
        } else {
            writeln!(text, "            Self::{name}(value) => f.debug_tuple({name:?}).field(value).finish(),")?;
        }
    }
    writeln!(text, "        }}\n    }}\n}}")?;
    Ok(())
}

/// `safeconduct.otp.v1` is the module `crate::otp::v1`; a type inside a message lives in a module named after it.
fn rust_path(full_name: &str, package: &str) -> String {
    let mut parts = vec!["crate".to_owned()];
    parts.extend(module_path(package).into_iter().filter(|part| part != "safeconduct"));
    let within = full_name.strip_prefix(package).unwrap_or(full_name).trim_start_matches('.');
    let mut scopes: Vec<&str> = within.split('.').collect();
    let name = scopes.pop().unwrap_or_default();
    parts.extend(scopes.into_iter().map(|scope| identifier(&snake(scope))));
    parts.push(name.to_owned());
    parts.join("::")
}

fn module_path(package: &str) -> Vec<String> {
    package.split('.').map(identifier).collect()
}

/// Keywords that occur as names in the contracts. A missing one fails the build, it can't go wrong silently.
fn identifier(name: &str) -> String {
    match name {
        "async" | "final" | "type" => format!("r#{name}"),
        _ => name.to_owned(),
    }
}

fn camel(name: &str) -> String {
    let mut text = String::new();
    for part in name.split('_') {
        let mut letters = part.chars();
        text.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        text.extend(letters);
    }
    text
}

fn snake(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}
