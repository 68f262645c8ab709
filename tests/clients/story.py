"""The story as a client tells it that knows nothing but addresses: contracts come by reflection (v1alpha).

Fails with an assertion if a step comes out otherwise than told.
"""

import argparse
import json

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status


class Service:
    """One service, its methods found by reflection."""

    def __init__(self, address, name, token):
        self.channel = grpc.insecure_channel(address)
        self.metadata = [("authorization", f"Bearer {token}")]
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)
        self.name = name

    def call(self, method, **fields):
        descriptor = self.pool.FindServiceByName(self.name).FindMethodByName(method)
        request = message_factory.GetMessageClass(descriptor.input_type)(**fields)
        answer = message_factory.GetMessageClass(descriptor.output_type)
        call = self.channel.unary_unary(
            f"/{self.name}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return call(request, metadata=self.metadata, timeout=20)

    def refusal(self, method, **fields):
        """The code, the ErrorInfo and the BadRequest of a call that is refused."""
        try:
            answer = self.call(method, **fields)
        except grpc.RpcError as error:
            status = rpc_status.from_call(error)
            assert status is not None, f"no google.rpc.Status: {error}"
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            for detail in status.details:
                detail.Unpack(info)
                detail.Unpack(bad)
            return error.code(), info, bad
        raise AssertionError(f"{method} was not refused: {answer}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ["identity", "connector", "website-token", "agent-token", "user-hash"]:
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()

    identity = Service(options.identity, "safeconduct.identity.v1.IdentityService", options.website_token)
    connector = Service(options.connector, "safeconduct.connector.v1.ConnectorService", options.agent_token)

    def proof(digest):
        return {
            "workspace_id": "demo-shop",
            "user_hash": {"user_id": "cust_ada", "hash": digest},
            "presenters": ["support-agent"],
        }

    proven = identity.call("VerifyIdentity", **proof(options.user_hash))
    listed = connector.call("Execute", assertion=proven.assertion, connector="list-orders", inputs_json="{}")
    orders = json.loads(listed.execution.output_json)["orders"]
    assert len(orders) == 3, orders

    refund = {
        "assertion": proven.assertion,
        "connector": "refund-order",
        "inputs_json": json.dumps({"order_id": orders[0]["id"], "amount": 100}),
        "idempotency_key": "python",
    }
    first = connector.call("Execute", **refund).execution
    again = connector.call("Execute", **refund).execution
    assert first.execution_id == again.execution_id and again.HasField("replay"), again

    # Not even the standard details need to be known beforehand.
    assert identity.pool.FindMessageTypeByName("google.rpc.ErrorInfo").fields_by_name["reason"]
    code, info, _ = identity.refusal("VerifyIdentity", **proof("00" * 32))
    assert code == grpc.StatusCode.UNAUTHENTICATED, code
    assert (info.domain, info.reason) == ("safeconduct.dev", "PROOF_INVALID"), info

    wrong = dict(refund, inputs_json='{"order_id": "../x", "amount": 0}', idempotency_key="")
    code, info, bad = connector.refusal("Execute", **wrong)
    assert code == grpc.StatusCode.INVALID_ARGUMENT, code
    assert info.reason == "INPUT_INVALID", info
    assert len(bad.field_violations) >= 2, bad
    print("told")


if __name__ == "__main__":
    main()
