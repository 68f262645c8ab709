//! The service beside which verifications are measured: the same messages over the same kind of server, and nothing
//! decided. A process of its own, started by the bench.

use std::io::Write as _;

use safeconduct_proto::identity::v1 as pb;
use safeconduct_proto::identity::v1::identity_service_server::{IdentityService, IdentityServiceServer};
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// What makes this program the echo.
pub(crate) const WORD: &str = "echo-of-identity";

/// Bytes of the answer's assertion: as long as a real one.
const ASSERTION: usize = 800;

struct Echo;

/// Serves until its parent ends it.
pub(crate) async fn serve() {
    listen(IdentityServiceServer::new(Echo)).await;
}

/// Serves this on a free port, which it prints.
pub(crate) async fn listen<S: IdentityService>(service: IdentityServiceServer<S>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    println!("{}", listener.local_addr().expect("an address"));
    std::io::stdout().flush().expect("somebody reads");
    // The builder's own setting does not reach connections that are handed over.
    let connections = TcpListenerStream::new(listener)
        .map(|accepted| accepted.inspect(|connection| connection.set_nodelay(true).expect("an option of TCP")));
    tonic::transport::Server::builder()
        .max_concurrent_streams(1024)
        .add_service(service)
        .serve_with_incoming(connections)
        .await
        .expect("the service serves");
}

/// The calls of the contract that are not measured.
macro_rules! not_here {
    () => {
        not_here! {
            start_session(StartSessionRequest) -> StartSessionResponse,
            renew_assertion(RenewAssertionRequest) -> RenewAssertionResponse,
            update_attributes(UpdateAttributesRequest) -> UpdateAttributesResponse,
            set_attributes(SetAttributesRequest) -> SetAttributesResponse,
            get_contact(GetContactRequest) -> GetContactResponse,
            delete_contact(DeleteContactRequest) -> DeleteContactResponse,
            export_contact(ExportContactRequest) -> ExportContactResponse,
            revoke_session(RevokeSessionRequest) -> RevokeSessionResponse,
            revoke_contact(RevokeContactRequest) -> RevokeContactResponse,
            unblock_contact(UnblockContactRequest) -> UnblockContactResponse,
            get_jwks(GetJwksRequest) -> GetJwksResponse,
            issue_assertion(IssueAssertionRequest) -> IssueAssertionResponse,
            list_proof_keys(ListProofKeysRequest) -> ListProofKeysResponse,
        }
    };
    ($($call:ident($request:ident) -> $response:ident),* $(,)?) => {$(
        fn $call<'life, 'future>(
            &'life self,
            _: tonic::Request<pb::$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<tonic::Response<pb::$response>, Status>> + Send + 'future>>
        where
            'life: 'future,
            Self: 'future,
        {
            Box::pin(async { Err(Status::unimplemented("only VerifyIdentity is measured here")) })
        }
    )*};
}
pub(crate) use not_here;

#[tonic::async_trait]
impl IdentityService for Echo {
    async fn verify_identity(
        &self,
        request: Request<pb::VerifyIdentityRequest>,
    ) -> Result<Response<pb::VerifyIdentityResponse>, Status> {
        let asked = request.into_inner();
        let contact = pb::Contact { contact_id: asked.workspace_id, ..pb::Contact::default() };
        let assertion = "a".repeat(ASSERTION);
        Ok(Response::new(pb::VerifyIdentityResponse { assertion, contact: Some(contact), ..Default::default() }))
    }

    not_here!();
}
