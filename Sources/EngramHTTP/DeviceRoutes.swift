import EngramCore
import EngramNode
import HTTPTypes
import Hummingbird
import HummingbirdCore

/// A further device of the session's client. Whether it may be one is said by the client's identity key, in
/// the request; the session only shows that one of its devices asks.
func addDeviceRoutes(to agent: RouterGroup<APIContext>, _ edge: Edge) {
  agent.post("devices") { request, context in
    let (session, _) = try edge.owner(request, context)
    try MediaType.device.require(in: request.headers)
    return try await edge.body(of: request, max: HTTPLimits.deviceBytesMax) { bytes in
      let result = await withCheckedContinuation { continuation in
        edge.node.addDevice(bytes, session) { continuation.resume(returning: $0) }
      }
      return response(.created, .directory, try value(result))
    }
  }
}
