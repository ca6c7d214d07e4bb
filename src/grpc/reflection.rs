//! Reflection: what there is to call, told to clients without generated code. What is asked for and not
//! there is answered on the stream, which goes on: a client asks for what it needs as it finds it, and
//! some of that may be anybody's guess.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming};

use super::wording::shortened;

/// The largest question, in bytes: it comes back with its answer.
pub const MAX_QUESTION_BYTES: usize = 16 << 10;
/// How much of a name that is not there is repeated.
const MAX_NAME_BYTES: usize = 200;

/// Reflection over some descriptors, of both versions of its protocol.
#[derive(Debug, Clone)]
pub struct Reflection(Arc<Index>);

/// Number of an extension, and the file that declares it.
type Extension = (i32, Arc<[u8]>);

/// Descriptors by everything that they can be asked for by.
#[derive(Debug, Default)]
struct Index {
    services: Vec<String>,
    /// Encoded files by their names, as they were compiled.
    files: HashMap<String, Arc<[u8]>>,
    /// The files that define these.
    symbols: HashMap<String, Arc<[u8]>>,
    /// The extensions of each message type.
    extensions: HashMap<String, Vec<Extension>>,
}

/// Set of files, each as the bytes that it is.
#[derive(Clone, PartialEq, prost::Message)]
struct EncodedFiles {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

/// Question of either version.
enum Question<'a> {
    File(&'a str),
    Symbol(&'a str),
    Extension(&'a str, i32),
    ExtensionsOf(&'a str),
    Services,
    Nothing,
}

/// Answer for either version.
enum Answer {
    File(Vec<u8>),
    Extensions(Vec<i32>),
    Services(Vec<String>),
    Error(Code, String),
}

impl Reflection {
    /// Over these encoded sets of descriptors.
    ///
    /// # Errors
    /// One of them is none.
    pub fn of(sets: &[&[u8]]) -> Result<Self, prost::DecodeError> {
        let mut index = Index::default();
        for set in sets {
            for encoded in EncodedFiles::decode(*set)?.files {
                index.add(&FileDescriptorProto::decode(&*encoded)?, encoded.into());
            }
        }
        Ok(Reflection(Arc::new(index)))
    }
}

impl Index {
    /// Adds a file, unless it is there: several sets have the files that all use.
    fn add(&mut self, file: &FileDescriptorProto, encoded: Arc<[u8]>) {
        if self.files.contains_key(file.name()) {
            return;
        }
        self.files.insert(file.name().to_owned(), Arc::clone(&encoded));
        let package = file.package();
        for service in &file.service {
            let name = within(package, service.name());
            for method in &service.method {
                self.symbols.insert(within(&name, method.name()), Arc::clone(&encoded));
            }
            self.symbols.insert(name.clone(), Arc::clone(&encoded));
            self.services.push(name);
        }
        self.add_all(package, &file.message_type, &file.enum_type, &file.extension, &encoded);
    }

    fn add_all(
        &mut self,
        scope: &str,
        messages: &[DescriptorProto],
        enums: &[EnumDescriptorProto],
        extensions: &[FieldDescriptorProto],
        encoded: &Arc<[u8]>,
    ) {
        let mut add = |name| self.symbols.insert(name, Arc::clone(encoded));
        for kind in enums {
            let name = within(scope, kind.name());
            for value in &kind.value {
                add(within(&name, value.name()));
                // Values stand beside their enum, as in C++; some clients look there.
                add(within(scope, value.name()));
            }
            add(name);
        }
        for extension in extensions {
            add(within(scope, extension.name()));
        }
        for message in messages {
            let name = within(scope, message.name());
            for field in &message.field {
                add(within(&name, field.name()));
            }
            for oneof in &message.oneof_decl {
                add(within(&name, oneof.name()));
            }
            add(name);
        }
        for extension in extensions {
            let of = extension.extendee().trim_start_matches('.').to_owned();
            let number = (extension.number(), Arc::clone(encoded));
            self.extensions.entry(of).or_default().push(number);
        }
        for message in messages {
            let name = within(scope, message.name());
            let DescriptorProto { nested_type, enum_type, extension, .. } = message;
            self.add_all(&name, nested_type, enum_type, extension, encoded);
        }
    }

    fn answer(&self, question: &Question<'_>) -> Answer {
        let file = |found: Option<&Arc<[u8]>>, what: &str, name: &str| match found {
            Some(encoded) => Answer::File(encoded.to_vec()),
            None => not_found(what, name),
        };
        match *question {
            Question::File(name) => file(self.files.get(name), "file", name),
            Question::Symbol(name) => {
                file(self.symbols.get(name.trim_start_matches('.')), "symbol", name)
            }
            Question::Extension(of, number) => {
                let all = self.extensions.get(of).map_or(&[][..], Vec::as_slice);
                let found = all.iter().find(|(known, _)| *known == number);
                file(found.map(|(_, encoded)| encoded), "extension of", of)
            }
            Question::ExtensionsOf(of) => match self.extensions.get(of) {
                Some(all) => Answer::Extensions(all.iter().map(|(number, _)| *number).collect()),
                None if self.symbols.contains_key(of) => Answer::Extensions(Vec::new()),
                None => not_found("message type", of),
            },
            Question::Services => Answer::Services(self.services.clone()),
            Question::Nothing => {
                Answer::Error(Code::InvalidArgument, "the request asks for nothing".to_owned())
            }
        }
    }
}

fn not_found(what: &str, name: &str) -> Answer {
    let name = shortened(name, MAX_NAME_BYTES);
    Answer::Error(Code::NotFound, format!("there is no {what} {name:?} here"))
}

fn within(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

/// Both versions have the same messages, in two packages.
macro_rules! answers {
    ($version:ident) => {
        const _: () = {
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            use tonic_reflection::pb::$version::server_reflection_server::ServerReflection;
            use tonic_reflection::pb::$version::{
                ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse,
                ListServiceResponse, ServerReflectionRequest, ServerReflectionResponse,
                ServiceResponse,
            };

            fn answer(index: &Index, request: ServerReflectionRequest) -> ServerReflectionResponse {
                let mut extended = String::new();
                let question = match &request.message_request {
                    None => Question::Nothing,
                    Some(MessageRequest::FileByFilename(name)) => Question::File(name),
                    Some(MessageRequest::FileContainingSymbol(name)) => Question::Symbol(name),
                    Some(MessageRequest::FileContainingExtension(extension)) => {
                        Question::Extension(&extension.containing_type, extension.extension_number)
                    }
                    Some(MessageRequest::AllExtensionNumbersOfType(of)) => {
                        extended.clone_from(of);
                        Question::ExtensionsOf(of)
                    }
                    Some(MessageRequest::ListServices(_)) => Question::Services,
                };
                let response = match index.answer(&question) {
                    Answer::File(encoded) => {
                        let file_descriptor_proto = vec![encoded];
                        let files = FileDescriptorResponse { file_descriptor_proto };
                        MessageResponse::FileDescriptorResponse(files)
                    }
                    Answer::Extensions(extension_number) => {
                        let base_type_name = extended;
                        MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                            base_type_name,
                            extension_number,
                        })
                    }
                    Answer::Services(names) => {
                        let named = |name| ServiceResponse { name };
                        let service = names.into_iter().map(named).collect();
                        MessageResponse::ListServicesResponse(ListServiceResponse { service })
                    }
                    Answer::Error(code, error_message) => {
                        let error_code = code as i32;
                        MessageResponse::ErrorResponse(ErrorResponse { error_code, error_message })
                    }
                };
                ServerReflectionResponse {
                    valid_host: request.host.clone(),
                    original_request: Some(request),
                    message_response: Some(response),
                }
            }

            #[tonic::async_trait]
            impl ServerReflection for Reflection {
                type ServerReflectionInfoStream =
                    Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;

                async fn server_reflection_info(
                    &self,
                    requests: Request<Streaming<ServerReflectionRequest>>,
                ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
                    let index = Arc::clone(&self.0);
                    let requests = requests.into_inner();
                    let answers =
                        requests.map(move |request| request.map(|request| answer(&index, request)));
                    Ok(Response::new(Box::pin(answers)))
                }
            }
        };
    };
}

answers!(v1);
answers!(v1alpha);
