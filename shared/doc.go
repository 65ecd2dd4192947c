// Package shared is the vocabulary that hosts and helpers have in common: hook points, classes, what a helper says of itself
// (Modinfo), what an operator asks of it (HelperSpec), verdicts, causes of failure and the error sentinels.
//
// It depends on the standard library only, so that anything may import it.
//
// # Counterparts
//
// What answers here to FreeBSD's khelp(9), hhook(9) and osd(9), and to NetBSD's module(9) and modctl(2): in Go, and, where an operator
// can have or see the same, as a command.
//
//	khelp(9)
//	  khelp_register_helper                 host.Host.Load, host.Host.AddBuiltin                                khelpd load
//	  khelp_deregister_helper               host.Host.Unload                                                    khelpd unload
//	  khelp_init_osd                        host.Vnet.NewObject
//	  khelp_destroy_osd                     osd.Object.Destroy
//	  khelp_get_id                          host.Host.ID, helper.Host.GetID                                     khelpd stat
//	  khelp_get_osd                         osd.Object.Slot, shared.Modinfo.Reads                               khelpd objects
//	  khelp_add_hhook                       helper.AddHook                                                      khelpd hooks
//	  khelp_remove_hhook                    helper.Host.RemoveHook                                              khelpd hooks
//	  KHELP_DECLARE_MOD                     helper.Serve
//	  KHELP_DECLARE_MOD_UMA                 helper.Helper.New, helper.Helper.Free
//	  struct helper                         shared.Modinfo, helper.Helper                                       khelpd info
//	  mod_init, mod_destroy                 helper.Helper.Init, helper.Helper.Fini
//	  HELPER_NEEDS_OSD                      shared.Modinfo.NeedsOSD                                             khelpd stat
//	  HELPER_CLASS_TCP,
//	  HELPER_CLASS_SOCKET                   shared.Class                                                        khelpd load --class
//
//	hhook(9)
//	  hhook_head_register                   host.Vnet.RegisterHead                                              khelpd hooks
//	  hhook_head_deregister                 hhook.Head.Close
//	  hhook_head_deregister_lookup          no counterpart, because whoever registered a head has its handle
//	  hhook_run_hooks                       hhook.Head.Run
//	  HHOOKS_RUN_IF                         hhook.Head.Enabled, then hhook.Head.Run
//	  HHOOKS_RUN_LOOKUP_IF                  host.Vnet.Head, then as HHOOKS_RUN_IF, then hhook.Head.Release
//	  hhook_add_hook                        hhook.Head.Add
//	  hhook_add_hook_lookup                 helper.Helper.Hooks, helper.AddHook                                 khelpd hooks
//	  hhook_remove_hook                     hhook.Head.Remove
//	  hhook_remove_hook_lookup              helper.Host.RemoveHook                                              khelpd hooks
//	  hhook_head_get                        host.Vnet.Head
//	  hhook_head_release                    hhook.Head.Release
//	  hhook_head_is_virtualised             hhook.Head.Vnet                                                     khelpd hooks
//	  hhook_head_is_virtualised_lookup      host.Vnet.Head, then hhook.Head.Vnet                                khelpd hooks
//	  hhook_func_t                          helper.Hook, host.BuiltinHook
//	  struct hookinfo                       shared.HookInfo, helper.HookDecl
//	  HHOOK_HEADISINVNET                    host.Host.Vnet
//	  HHOOK_WAITOK, HHOOK_NOWAIT            no counterpart, because registering a head does not wait for memory
//
//	osd(9)
//	  osd_register                          shared.OSDInfo, helper.Helper.Free
//	  osd_deregister                        host.Host.Unload                                                    khelpd unload
//	  osd_set                               osd.Slot.Commit, with what a helper.Hook leaves in *S
//	  osd_reserve,
//	  osd_set_reserved,
//	  osd_free_reserved                     no counterpart, because a slot is made with its object: setting it needs no memory of its own
//	  osd_get                               osd.Object.Slot, osd.Slot.Bytes                                     khelpd objects
//	  osd_del                               osd.Slot.End
//	  osd_call                              no counterpart, because what helpers do with an object is a hook point
//	  osd_exit                              osd.Object.Destroy
//
//	module(9)
//	  MODULE                                helper.Serve, host.Builtin
//	  module_init                           host.New                                                            khelpd run
//	  module_prime                          host.Host.Prime, host.Host.EndBoot                                  khelpd run
//	  module_init_class                     host.Host.InitClass                                                 khelpd run
//	  module_load                           host.Host.Load, helper.Host.Load                                    khelpd load
//	  module_autoload                       helper.Helper.Requires, shared.LoadDemand, shared.AutoloadScope     khelpd run
//	  module_unload                         host.Host.Unload, helper.Host.Unload                                khelpd unload
//	  module_hold                           host.Host.Hold, helper.Host.Hold                                    khelpd hold
//	  module_rele                           host.Host.Rele, helper.Host.Rele                                    khelpd rele
//	  module_find_section                   shared.Modinfo.Sections, helper.Helper.Sections                     khelpd info --section
//	  module_name                           shared.Modinfo.Name                                                 khelpd stat
//	  module_source                         shared.Source                                                       khelpd stat
//	  module_kernel                         no counterpart, because the host is no helper of its own
//	  module_register_callbacks             host.Host.Subscribe                                                 khelpd events
//	  module_unregister_callbacks           host.Subscription.Close
//	  module_builtin_add                    host.Host.AddBuiltin
//	  module_builtin_remove                 host.UnloadOptions.Disable                                          khelpd unload --disable
//	  module_builtin_require_force          host.LoadOptions.Force                                              khelpd load --force
//	  module_builtin_list                   no counterpart, because a program adds its builtins itself
//	  module_specific_key_create,
//	  module_specific_key_delete,
//	  module_getspecific,
//	  module_setspecific                    no counterpart, because who follows helpers keeps a map of its own, by shared.HelperID
//	  module_load_vfs_init                  host.Config.HelperPath                                              khelpd run
//	  module_start_unload_thread            host.Autounload                                                     khelpd run
//	  module_autotime                       host.Autounload.After, shared.HelperSpec.AutounloadAfter            khelpd stat
//	  module_gen                            host.Host.Generation                                                khelpd stat
//	  module_compatible                     shared.APIGeneration                                                khelpd version
//	  MODULE_CMD_INIT                       helper.Helper.Init
//	  MODULE_CMD_FINI                       helper.Helper.Fini
//	  MODULE_CMD_STAT                       helper.Helper.Stat                                                  khelpd stat NAME
//	  MODULE_CMD_AUTOUNLOAD                 helper.Helper.Autounload
//	  MODULE_SOURCE_KERNEL,
//	  MODULE_SOURCE_BOOT,
//	  MODULE_SOURCE_FILESYS                 shared.SourceBuiltin, shared.SourceBoot, shared.SourceFilesys       khelpd stat
//	  kauth(9), KAUTH_SYSTEM_MODULE         shared.Privilege, shared.AccessRule                                 khelpd run
//
//	modctl(2)
//	  MODCTL_LOAD                           host.Host.Load                                                      khelpd load
//	  MODCTL_LOAD_FORCE                     host.LoadOptions.Force                                              khelpd load --force
//	  MODCTL_NO_PROP                        shared.HelperSpec.Config, left empty
//	  MODCTL_UNLOAD                         host.Host.Unload                                                    khelpd unload
//	  MODCTL_STAT                           host.Host.Stat                                                      khelpd stat
//	  MODCTL_EXISTS                         shared.AccessRule.Allows, of shared.PrivilegeLoad, shared.PrivilegeAutoload
package shared
