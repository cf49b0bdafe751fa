// The controller that enforces NetworkPolicies: kube-router's, of which K3s has this part built in and starts it so.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"github.com/cloudnativelabs/kube-router/v2/pkg/utils"
	"github.com/coreos/go-iptables/iptables"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the Kubernetes API")
	node := flag.String("node", "", "the name of this node")
	services := flag.String("services", "", "the addresses of Services")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *node, *services); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, kubeconfig, node, services string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := awaitAddress(ctx, client, node); err != nil {
		return err
	}
	// Where ipset does not work K3s goes on without policies. Tests must not.
	sets, err := utils.NewIPSet(false)
	if err != nil {
		return err
	}
	if err := sets.Save(); err != nil {
		return err
	}
	rules, err := iptables.NewWithProtocol(iptables.ProtocolIPv4)
	if err != nil {
		return err
	}

	settings := options.NewKubeRouterConfig()
	settings.EnableIPv4 = true
	settings.ClusterIPCIDRs = []string{services}
	settings.NodePortRange = "30000:32767"
	settings.HostnameOverride = node
	settings.RunFirewall = true

	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	controller, err := netpol.NewNetworkPolicyController(
		client, settings, pods, policies, namespaces, &sync.Mutex{},
		map[v1.IPFamily]utils.IPTablesHandler{v1.IPv4Protocol: rules},
		map[v1.IPFamily]utils.IPSetHandler{v1.IPv4Protocol: sets},
	)
	if err != nil {
		return err
	}
	pods.AddEventHandler(controller.PodEventHandler)
	namespaces.AddEventHandler(controller.NamespaceEventHandler)
	policies.AddEventHandler(controller.NetworkPolicyEventHandler)

	// Nobody asks for its health, but it waits until somebody has taken its heartbeat.
	health, err := healthcheck.NewHealthController(settings)
	if err != nil {
		return err
	}
	health.SetAlive()
	heartbeats := make(chan *healthcheck.ControllerHeartbeat)
	var running sync.WaitGroup
	running.Add(2)
	go health.RunCheck(heartbeats, ctx.Done(), &running)
	go controller.Run(heartbeats, ctx.Done(), &running)
	running.Wait()
	return nil
}

// awaitAddress waits until the kubelet has told the node's address, which the controller reads once.
func awaitAddress(ctx context.Context, client kubernetes.Interface, name string) error {
	for {
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err == nil && len(node.Status.Addresses) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the node %s has no address: %v", name, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
