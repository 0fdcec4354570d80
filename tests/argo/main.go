// Validates manifests of Argo Workflows as Argo itself does, without a cluster.
//
//	validate FILE…
//
// Each Workflow, WorkflowTemplate and CronWorkflow of the files is read strictly and validated; a template of another
// object is looked up among those of the same files and namespace. Other kinds are left alone. One line an error.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	log "github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v3/workflow/common"
	"github.com/argoproj/argo-workflows/v3/workflow/templateresolution"
	"github.com/argoproj/argo-workflows/v3/workflow/validate"
)

// separator is where one document of a file ends.
var separator = regexp.MustCompile(`(?m)^---`)

// templates are the WorkflowTemplates of one namespace by name.
type templates map[string]*v1alpha1.WorkflowTemplate

// Get returns the template of a name.
func (known templates) Get(name string) (*v1alpha1.WorkflowTemplate, error) {
	if found, there := known[name]; there {
		return found, nil
	}
	return nil, fmt.Errorf("there is no WorkflowTemplate %q", name)
}

// manifests is what was read, and what is wrong with it.
type manifests struct {
	objects   []metav1.Object
	templates map[string]templates
	errors    []string
}

func main() {
	// The libraries log what they also return.
	log.SetOutput(io.Discard)
	read := manifests{templates: map[string]templates{}}
	for _, path := range os.Args[1:] {
		read.add(path)
	}
	for _, object := range read.objects {
		read.validate(object)
	}
	if len(read.objects) == 0 && len(read.errors) == 0 {
		read.refuse("the files", fmt.Errorf("hold no Workflow, WorkflowTemplate or CronWorkflow"))
	}
	for _, line := range read.errors {
		fmt.Println(line)
	}
	if len(read.errors) > 0 {
		os.Exit(1)
	}
}

// add reads a file's objects.
func (read *manifests) add(path string) {
	content, err := os.ReadFile(path)
	if err != nil {
		read.refuse(path, err)
		return
	}
	for _, document := range separator.Split(string(content), -1) {
		// What cannot be parsed at all the library would leave out.
		var anything any
		if err := yaml.UnmarshalStrict([]byte(document), &anything); err != nil {
			read.refuse(path, err)
			continue
		}
		for _, parsed := range common.ParseObjects([]byte(document), true) {
			read.keep(path, parsed)
		}
	}
}

// keep notes an object of a kind that is validated.
func (read *manifests) keep(path string, parsed common.ParseResult) {
	switch object := parsed.Object.(type) {
	case *v1alpha1.WorkflowTemplate:
		if read.templates[object.Namespace] == nil {
			read.templates[object.Namespace] = templates{}
		}
		read.templates[object.Namespace][object.Name] = object
	case *v1alpha1.Workflow, *v1alpha1.CronWorkflow:
	case nil:
		if parsed.Err != nil {
			read.refuse(path, parsed.Err)
		}
		return
	default:
		return
	}
	if parsed.Err != nil {
		read.refuse(describe(parsed.Object), parsed.Err)
	}
	read.objects = append(read.objects, parsed.Object)
}

// validate notes what Argo refuses in an object.
func (read *manifests) validate(object metav1.Object) {
	known := read.templates[object.GetNamespace()]
	none := &templateresolution.NullClusterWorkflowTemplateGetter{}
	options := validate.ValidateOpts{}
	var err error
	switch object := object.(type) {
	case *v1alpha1.Workflow:
		err = validate.ValidateWorkflow(known, none, object, nil, options)
	case *v1alpha1.WorkflowTemplate:
		err = validate.ValidateWorkflowTemplate(known, none, object, nil, options)
	case *v1alpha1.CronWorkflow:
		err = validate.ValidateCronWorkflow(context.Background(), known, none, object, nil)
	}
	if err != nil {
		read.refuse(describe(object), err)
	}
}

// refuse notes an error in one line.
func (read *manifests) refuse(where string, err error) {
	words := strings.Fields(string(bytes.ToValidUTF8([]byte(err.Error()), []byte("?"))))
	read.errors = append(read.errors, where+": "+strings.Join(words, " "))
}

// describe names an object: kind and name.
func describe(object metav1.Object) string {
	kind := "object"
	switch object.(type) {
	case *v1alpha1.Workflow:
		kind = "Workflow"
	case *v1alpha1.WorkflowTemplate:
		kind = "WorkflowTemplate"
	case *v1alpha1.CronWorkflow:
		kind = "CronWorkflow"
	}
	if name := object.GetName(); name != "" {
		return kind + " " + name
	}
	return kind + " " + object.GetGenerateName() + "…"
}
