import EngramCore
import EngramNode
import HTTPTypes
import Hummingbird
import HummingbirdCore
import NIOCore

/// What a route knows about its request beside the request itself.
struct APIContext: RequestContext {
  var coreContext: CoreRequestContextStorage
  private let channel: any Channel
  /// Where the connection lives; envelopes are verified from here.
  var loop: any EventLoop { channel.eventLoop }
  /// Who is at the other end, as far as the transport says.
  var remoteAddress: SocketAddress? { channel.remoteAddress }

  init(source: ApplicationRequestContextSource) {
    coreContext = CoreRequestContextStorage(source: source)
    channel = source.channel
  }
}

extension Edge {
  /// The session behind `Authorization: Bearer …`.
  func session(_ headers: HTTPFields) throws(Problem) -> (session: ClientSession, bearer: String) {
    guard let bearer = bearerToken(headers) else { throw Problem(.tokenInvalid) }
    switch node.session(bearer) {
    case .success(let session): return (session, bearer)
    case .failure(let code): throw Problem(code)
    }
  }

  /// The session, whose address must be the `{id}` of the path. Somebody else's path and one that does not
  /// exist are answered alike, without a look at either.
  func owner(_ request: Request, _ context: APIContext) throws(Problem) -> (
    session: ClientSession, bearer: String
  ) {
    let found = try session(request.headers)
    guard let id = context.parameters.get("id"), address(inPath: id) == found.session.address else {
      throw Problem(.notFound)
    }
    return found
  }

  /// Reads a whole body of at most `max` bytes, within what all connections together may hold.
  func body<T: Sendable>(
    of request: Request, max: Int, _ use: ([UInt8]) async throws -> T
  ) async throws -> T {
    let declared = request.headers[.contentLength].flatMap { Int($0) }
    guard declared ?? 0 <= max else { throw Problem(.tooLarge) }
    let reserved = declared ?? max
    guard bodies.take(reserved) else { throw Problem(.overloaded) }
    defer { bodies.give(reserved) }
    let buffer: ByteBuffer
    do { buffer = try await request.body.collect(upTo: max) } catch is NIOTooManyBytesError {
      throw Problem(.tooLarge)
    }
    return try await use(Array(buffer.readableBytesView))
  }
}

/// An address as a path segment, `@` written plainly or as `%40`.
func address(inPath segment: some StringProtocol) -> Address? {
  var text = String(segment)
  if let at = text.firstIndex(of: "%"), text[at...].hasPrefix("%40") {
    text.replaceSubrange(at..<text.index(at, offsetBy: 3), with: "@")
  }
  do throws(CodecError) { return try Address(text) } catch { return nil }
}

/// The media types of the API.
enum MediaType: String {
  case acks = "application/vnd.engram.acks"
  case device = "application/vnd.engram.device"
  case deviceList = "application/vnd.engram.device-list"
  case directory = "application/vnd.engram.directory"
  case envelopes = "application/vnd.engram.envelopes"
  case items = "application/vnd.engram.items"
  case json = "application/json"
  case metrics = "text/plain; version=0.0.4; charset=utf-8"
  case outcomes = "application/vnd.engram.outcomes"
  case prekeys = "application/vnd.engram.prekeys"
  case registration = "application/vnd.engram.registration"
  case settlements = "application/vnd.engram.settlements"
  case text = "text/plain; charset=utf-8"

  /// Refuses a body of any other type before it is read. Parameters are not part of ours.
  func require(in headers: HTTPFields) throws(Problem) {
    guard headers[.contentType]?.lowercased() == rawValue else { throw Problem(.unsupportedMedia) }
  }
}

func response(
  _ status: HTTPResponse.Status, _ type: MediaType, _ body: [UInt8]
) -> Response {
  Response(
    status: status, headers: [.contentType: type.rawValue, .cacheControl: "no-store"],
    body: ResponseBody(byteBuffer: ByteBuffer(bytes: body)))
}

extension Problem {
  var response: Response {
    Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: body)))
  }
}
