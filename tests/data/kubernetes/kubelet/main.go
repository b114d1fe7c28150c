// A kubelet's pod-resources API with the message types of k8s.io/kubelet: a peer for tests/services/test_kubernetes.py.
//
//	kubelet SOCKET STATE.json    serves List on the socket; the answer is the file as it is at each call (protobuf JSON)
//	kubelet encode STATE.json    writes the answer's bytes to standard output: so the .pb files of tests/data are made
package main

import (
	"context"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/kubelet/pkg/apis/podresources/v1"
)

type lister struct {
	v1.UnimplementedPodResourcesListerServer
	state string
}

func (l lister) List(context.Context, *v1.ListPodResourcesRequest) (*v1.ListPodResourcesResponse, error) {
	answer, err := read(l.state)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return answer, nil
}

func read(path string) (*v1.ListPodResourcesResponse, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	answer := &v1.ListPodResourcesResponse{}
	return answer, protojson.Unmarshal(text, answer)
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: kubelet SOCKET|encode STATE.json")
	}
	if os.Args[1] == "encode" {
		answer, err := read(os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(answer)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := os.Stdout.Write(bytes); err != nil {
			log.Fatal(err)
		}
		return
	}
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	v1.RegisterPodResourcesListerServer(server, lister{state: os.Args[2]})
	log.Fatal(server.Serve(listener))
}
