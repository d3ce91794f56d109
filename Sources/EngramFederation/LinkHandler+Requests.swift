import EngramCore
import EngramNode
import NIOCore
import NIOPosix

extension LinkHandler {
  /// The peer asks on behalf of its clients. The node reads and commits, so it answers from other threads.
  func answerRequest(_ request: UInt32, _ kind: UInt8, _ payload: [UInt8]) {
    guard let port else { return }
    environment.pool.submit { [node = environment.node, peer] state in
      guard case .active = state else {
        return port.post(.requestAnswered(request: request, .shuttingDown, []))
      }
      node.answer(kind: kind, payload, from: peer.name) { result in
        switch result {
        case .failure(let code): port.post(.requestAnswered(request: request, code, []))
        case .success(let answer): port.post(.requestAnswered(request: request, .none, answer))
        }
      }
    }
  }
}
