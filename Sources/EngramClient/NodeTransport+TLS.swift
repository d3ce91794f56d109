internal import EngramTLS
internal import EngramWire

extension NodeTransport {
  /// TLS 1.3 to the home node.
  /// - Parameter serverName: the name that the node's certificate has to cover.
  static func tls(host: String, port: Int, serverName: String, caFile: String) throws -> NodeTransport {
    let endpoint = Endpoint.tls(host: host, port: port, caFile: caFile, serverName: serverName)
    let client: HTTPClient
    do { client = try HTTPClient(endpoint: endpoint) } catch { throw EngramError(wire: error) }
    return NodeTransport(
      exchange: { request in
        do {
          let reply = try await client.send(request.wire)
          return NodeReply(status: reply.status, body: reply.body)
        } catch { throw EngramError(wire: error) }
      },
      realtime: { request in
        do {
          let opening = try await WebSocketConnection.connect(
            endpoint: endpoint, path: request.path, headers: request.wire.headers)
          switch opening {
          case .declined(let reply): return .declined(NodeReply(status: reply.status, body: reply.body))
          case .open(let connection): return .open(RealtimeSocket(connection))
          }
        } catch { throw EngramError(wire: error) }
      },
      close: { await client.close() })
  }
}

extension RealtimeSocket {
  fileprivate init(_ connection: WebSocketConnection) {
    self.init(
      send: { bytes in
        do { try await connection.send(binary: bytes) } catch { throw EngramError(wire: error) }
      },
      messages: connection.messages,
      close: { await connection.close() })
  }
}

extension NodeRequest {
  fileprivate var wire: WireRequest {
    WireRequest(method, path, headers: headers.map { WireHeader($0.name, $0.value) }, body: body)
  }
}

extension EngramError {
  /// No answer came: the network, or a node that is not the one we trust.
  init(wire error: any Error) {
    guard let error = error as? WireError else {
      self.init(error)
      return
    }
    switch error {
    case .tls(.peerNotTrusted):
      self.init(
        .untrusted, name: "node-not-trusted",
        "the node's certificate is not one that the CA file vouches for",
        hint:
          "check this machine's clock, --node and --ca; a certificate for another name than HOST needs "
          + "--node-name NAME")
    case .tlsSetup:
      self.init(
        .badInput, name: "ca-file", "the CA file holds no certificate authority",
        hint: "give the PEM file that your administrator handed out")
    case .invalidRequest: self.init(.badInput, name: "bad-request", "the request cannot be sent as it is")
    case .cancelled: self.init(.local, name: "cancelled", "cancelled")
    case .tooLarge(let limit):
      self.init(.refused, name: "too-large", "the node's answer is larger than \(limit) bytes")
    case .timeout: self.init(.unreachable, name: "timeout", "the node did not answer in time")
    case .closed, .overloaded, .protocolViolation, .refused, .tls, .unreachable:
      self.init(
        .unreachable, name: "unreachable", "the node cannot be reached",
        hint: "check that it runs, and that HOST:PORT is the one it listens on")
    }
  }
}
