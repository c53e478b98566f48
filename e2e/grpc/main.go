// Command grpc asks the gRPC health service of an address, with the library that the kubelet asks with. It is a module of
// its own, so that holdfast does not depend on that.
//
//	grpc ADDR check SERVICE    prints the status, or "error: CODE: MESSAGE"
//	grpc ADDR watch SERVICE    prints each status as it comes
//	grpc ADDR list             the same as check, for what no probe asks for
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Println("usage: grpc ADDR check|watch|list [SERVICE]")
		os.Exit(2)
	}
	if err := ask(os.Args[1], os.Args[2], append(os.Args[3:], "")[0]); err != nil {
		s := status.Convert(err)
		fmt.Printf("error: %s: %s\n", s.Code(), s.Message())
		os.Exit(1)
	}
}

func ask(addr, what, service string) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := grpc_health_v1.NewHealthClient(conn)
	request := &grpc_health_v1.HealthCheckRequest{Service: service}
	if what == "watch" {
		return watch(client, request)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if what == "list" {
		_, err := client.List(ctx, &grpc_health_v1.HealthListRequest{})
		return err
	}
	response, err := client.Check(ctx, request)
	if err == nil {
		fmt.Println(response.GetStatus())
	}
	return err
}

func watch(client grpc_health_v1.HealthClient, request *grpc_health_v1.HealthCheckRequest) error {
	stream, err := client.Watch(context.Background(), request)
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		fmt.Println(response.GetStatus())
	}
}
